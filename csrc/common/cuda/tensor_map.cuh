// TMA descriptors on the host. The driver function that encodes them is looked up at run time: nothing links libcuda.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "common/host/status.h"
#include "common/ptx/shared_layout.h"

namespace hunyuan {

using EncodeTensorMap = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                     const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                     CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// The driver's cuTensorMapEncodeTiled, or null without a driver that has it.
inline EncodeTensorMap tensor_map_encoder() {
  static const EncodeTensorMap encoder = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    constexpr unsigned kSince = 12000;  // the driver interface of CUDA 12.0
#if CUDART_VERSION >= 12050
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince, cudaEnableDefault, &found);
#else
    const cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
    if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) function = nullptr;
    (void)cudaGetLastError();
    return reinterpret_cast<EncodeTensorMap>(function);
  }();
  return encoder;
}

// Strides of dimensions 1 to `dims` - 1, from elements to bytes. That of a dimension of one element is never used; it
// gets what the dimensions inside it span, as in the driver's own description of a tensor.
inline void fill_stride_bytes(const int64_t* size, const int64_t* stride, int dims, int element_bytes,
                              cuuint64_t* bytes) {
  int64_t span = size[0] * element_bytes;
  for (int d = 1; d < dims; ++d) {
    const int64_t step = size[d] == 1 ? (span + 15) / 16 * 16 : stride[d] * element_bytes;
    bytes[d - 1] = static_cast<cuuint64_t>(step);
    if (step * size[d] > span) span = step * size[d];
  }
}

// A tensor of up to five dimensions, for copies of boxes whose rows are one 128-byte panel row. Innermost dimension
// first; unused dimensions have size 1.
constexpr int kMostDims = 5;
struct BoxView {
  const void* data;
  int64_t size[kMostDims];
  int64_t stride[kMostDims];  // in elements; the innermost is 1
  int box[kMostDims];         // elements that a copy takes of each dimension
  int step[kMostDims];        // distance between them: 1 to 8
};

// Describes `view` for copies, 128-byte swizzled. `what` names the tensor in errors.
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

// A strided tensor of four dimensions, innermost first; the innermost one is contiguous.
struct TensorView4 {
  const void* data;
  int64_t size[4];
  int64_t stride[4];  // in elements
};

// Describes `view` for copies of boxes of box_width x box_rows elements of the first two dimensions.
inline int make_tensor_map(CUtensorMap* map, const TensorView4& view, CUtensorMapDataType type, int element_bytes,
                           int box_width, int box_rows, const char* what) {
  if (box_width * element_bytes != ptx::kPanelBytes || box_rows > 256)
    return fail(HUNYUAN_BAD_ARGUMENT, "%s: a box of %d x %d elements is not a swizzled panel", what, box_width,
                box_rows);
  BoxView boxes{view.data, {}, {}, {box_width, box_rows, 1, 1}, {1, 1, 1, 1}};
  for (int d = 0; d < 4; ++d) boxes.size[d] = view.size[d], boxes.stride[d] = view.stride[d];
  return make_box_map(map, boxes, 4, type, element_bytes, what);
}

}  // namespace hunyuan
