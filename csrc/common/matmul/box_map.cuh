// TMA descriptors of tensors of up to five dimensions, for copies of boxes whose rows are one 128-byte panel row.
#pragma once

#include "common/tensor_map.cuh"

namespace hunyuan::matmul {

constexpr int kMostDims = 5;

// Innermost dimension first; unused dimensions have size 1.
struct BoxView {
  const void* data;
  int64_t size[kMostDims];
  int64_t stride[kMostDims];  // in elements; the innermost is 1
  int box[kMostDims];         // elements that a copy takes of each dimension
  int step[kMostDims];        // distance between them: 1 to 8
};

inline int make_box_map(CUtensorMap* map, const BoxView& view, int dims, CUtensorMapDataType type, int element_bytes,
                        const char* what) {
  const EncodeTensorMap encode = tensor_map_encoder();
  if (!encode)
    return fail(HUNYUAN_CUDA_ERROR,
                "the CUDA driver has no cuTensorMapEncodeTiled; a driver for CUDA 12 or later is needed");
  cuuint64_t size[kMostDims], stride_bytes[kMostDims];
  cuuint32_t box[kMostDims], step[kMostDims];
  for (int d = 0; d < dims; ++d) {
    size[d] = static_cast<cuuint64_t>(view.size[d]);
    box[d] = static_cast<cuuint32_t>(view.box[d] * view.step[d]);  // the driver counts the elements stepped over, too
    step[d] = static_cast<cuuint32_t>(view.step[d]);
  }
  fill_stride_bytes(view.size, view.stride, dims, element_bytes, stride_bytes);
  const CUresult result = encode(map, type, static_cast<cuuint32_t>(dims), const_cast<void*>(view.data), size,
                                 stride_bytes, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return HUNYUAN_OK;
  return fail(
      HUNYUAN_BAD_ARGUMENT,
      "%s: the driver cannot describe this tensor to the copy engine (error %d); its address and strides must be "
      "multiples of 16 bytes",
      what, static_cast<int>(result));
}

}  // namespace hunyuan::matmul
