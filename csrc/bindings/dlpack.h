// The few DLPack 1.x structs that torch's C exchange API uses, declared here so that no header is needed to build.
// Layout facts are asserted below, and hunyuan_ext checks them against a real tensor when it is imported.
// Specification: https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstddef>
#include <cstdint>

namespace hunyuan::dlpack {

constexpr uint32_t kMajorVersion = 1;
constexpr int32_t kCpu = 1, kCuda = 2, kCudaHost = 3;                      // DLDeviceType
constexpr uint8_t kInt = 0, kFloat = 2, kBfloat = 4, kFloat8_e4m3fn = 10;  // DLDataTypeCode

struct Device {
  int32_t type;
  int32_t id;
};

struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements
  uint64_t byte_offset;
};

struct ExchangeHeader {
  uint32_t major;
  uint32_t minor;
  ExchangeHeader* older;
};

// Functions we do not call are kept as untyped pointers; they only hold their place.
struct ExchangeApi {
  ExchangeHeader header;
  void (*managed_tensor_allocator)();
  void (*managed_tensor_from_py_object)();
  void (*managed_tensor_to_py_object)();
  int (*tensor_from_py_object)(void* py_object, Tensor* out);  // no reference taken; may be null
  int (*current_work_stream)(int32_t device_type, int32_t device_id, void** stream);
};

static_assert(sizeof(Device) == 8 && sizeof(DataType) == 4, "DLPack device or dtype layout");
static_assert(sizeof(Tensor) == 48 && offsetof(Tensor, ndim) == 16 && offsetof(Tensor, dtype) == 20 &&
                  offsetof(Tensor, shape) == 24 && offsetof(Tensor, byte_offset) == 40,
              "DLPack tensor layout");
static_assert(sizeof(ExchangeHeader) == 16 && offsetof(ExchangeApi, tensor_from_py_object) == 40 &&
                  offsetof(ExchangeApi, current_work_stream) == 48,
              "DLPack exchange API layout");

}  // namespace hunyuan::dlpack
