// What a CUtensorMap holds in the emulator: written by cuTensorMapEncodeTiled (runtime.cpp), read by tensor copies.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace emulator {

struct TensorMap {
  const char* data;
  int64_t stride[4];  // bytes, of dimensions 1 to 4
  uint32_t size[5], box[5];
  uint8_t step[5], dims, element_bytes;

  int64_t count(int d) const { return (box[d] + step[d] - 1) / step[d]; }  // elements that a box takes of a dimension
  int64_t rows() const {
    int64_t rows = 1;
    for (int d = 1; d < dims; ++d) rows *= count(d);
    return rows;
  }
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap), "a tensor map has 128 bytes");

}  // namespace emulator
