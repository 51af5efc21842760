// One random problem for a kernel: draws sizes, makes guarded inputs and outputs, and runs the call at every
// instruction set and several thread counts. Every element of the outputs must be written (they are filled with one
// value or another before a call), with the same bits for any thread count, and levels must agree up to rounding.
// Accuracy itself is the business of tests/ops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "../check.h"
#include "buffer.h"
#include "hunyuan_ext.h"

// Elements of [batch, rows, columns] at these strides, from the first to the last.
inline int64_t extent(int64_t batch, int64_t batch_stride, int64_t rows, int64_t row_stride, int64_t columns) {
  return batch * rows * columns == 0 ? 0 : (batch - 1) * batch_stride + (rows - 1) * row_stride + columns;
}

class Problem {
 public:
  explicit Problem(uint64_t seed) : random_(seed) {}

  int64_t size(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  bool coin() { return size(0, 1) == 1; }
  hunyuan_dtype dtype() { return coin() ? HUNYUAN_F32 : HUNYUAN_BF16; }
  // The length of a row: mostly short, now and then longer than any vector register, seldom a multiple of one.
  int64_t length() { return size(0, 3) ? size(1, 70) : size(1, 700); }
  // A stride of at least `least`; the next row then starts at any alignment.
  int64_t stride(int64_t least) { return least + (coin() ? size(0, 9) : 0); }

  // `count` finite values, in memory that cannot be written.
  const void* input(hunyuan_dtype dtype, int64_t count) {
    Buffer& buffer = add(dtype, count);
    if (dtype == HUNYUAN_F32) {
      auto* values = reinterpret_cast<float*>(buffer.data());
      for (int64_t i = 0; i < count; ++i) values[i] = number();
    } else if (dtype == HUNYUAN_BF16) {
      auto* values = reinterpret_cast<uint16_t*>(buffer.data());
      for (int64_t i = 0; i < count; ++i) {
        const float value = number();
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        values[i] = static_cast<uint16_t>(bits >> 16);
      }
    } else {  // codes: no e4m3 NaN, and never the poison
      for (int64_t i = 0; i < count; ++i) buffer.data()[i] = static_cast<char>(size(0, 0x7e) | (coin() ? 0x80 : 0));
    }
    buffer.make_read_only();
    return buffer.data();
  }
  const float* floats(int64_t count) { return static_cast<const float*>(input(HUNYUAN_F32, count)); }
  const void* maybe_input(hunyuan_dtype dtype, int64_t count) { return coin() ? input(dtype, count) : nullptr; }

  template <class T>
  const T* numbers(const std::vector<T>& values) {
    buffers_.emplace_back(static_cast<int64_t>(values.size() * sizeof(T)), coin());
    std::copy(values.begin(), values.end(), reinterpret_cast<T*>(buffers_.back().data()));
    buffers_.back().make_read_only();
    return reinterpret_cast<const T*>(buffers_.back().data());
  }

  void* output(hunyuan_dtype dtype, int64_t count) {
    outputs_.push_back({&add(dtype, count), dtype});
    return outputs_.back().buffer->data();
  }

  // call(target) -> status; available(): whether the call exists at the level in use.
  template <class Call, class Available>
  void run(Call call, Available available) {
    std::vector<std::vector<char>> lowest;
    for (int level = HUNYUAN_SCALAR; level <= hunyuan_isa_supported(); ++level) {
      hunyuan_set_isa(static_cast<hunyuan_isa>(level));
      if (!available()) continue;
      std::vector<std::vector<char>> serial;
      for (int threads : {1, 2, 3}) {
        for (const Output& out : outputs_)
          std::memset(out.buffer->data(), threads == 2 ? 0x7f : 0xff, out.buffer->bytes());
        const int status = call(hunyuan_target{-1, nullptr, threads});
        CHECK(status == HUNYUAN_OK, "%s: %s", name.c_str(), hunyuan_last_error());
        std::vector<std::vector<char>> results;
        for (const Output& out : outputs_)
          results.emplace_back(out.buffer->data(), out.buffer->data() + out.buffer->bytes());
        if (serial.empty()) serial = results;
        CHECK(results == serial, "%s: level %d gives other bits with %d threads", name.c_str(), level, threads);
      }
      if (lowest.empty()) lowest = serial;
      for (size_t i = 0; i < outputs_.size(); ++i) compare(outputs_[i], serial[i], lowest[i], level);
    }
  }
  template <class Call>
  void run(Call call) {
    run(call, [] { return true; });
  }

  std::string name;  // for messages

 private:
  struct Output {
    Buffer* buffer;
    hunyuan_dtype dtype;
  };

  static int64_t item(hunyuan_dtype dtype) { return dtype == HUNYUAN_F32 ? 4 : dtype == HUNYUAN_BF16 ? 2 : 1; }
  float number() { return std::normal_distribution<float>(0.2f, 1.5f)(random_); }

  Buffer& add(hunyuan_dtype dtype, int64_t count) {
    buffers_.emplace_back(count * item(dtype), coin());
    return buffers_.back();
  }

  static double value(hunyuan_dtype dtype, const char* data, int64_t i) {
    if (dtype == HUNYUAN_F32) {
      float number;
      std::memcpy(&number, data + 4 * i, 4);
      return number;
    }
    if (dtype == HUNYUAN_I8) return static_cast<signed char>(data[i]);
    if (dtype != HUNYUAN_BF16) return static_cast<unsigned char>(data[i]) == 0xff ? NAN : data[i];
    uint16_t half;
    std::memcpy(&half, data + 2 * i, 2);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
  }

  void compare(const Output& out, const std::vector<char>& got, const std::vector<char>& wanted, int level) {
    const int64_t count = out.buffer->bytes() / item(out.dtype);
    double largest = 0, difference = 0;
    int64_t missing = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double a = value(out.dtype, got.data(), i), b = value(out.dtype, wanted.data(), i);
      missing += std::isnan(a);
      largest = std::max(largest, std::fabs(b));
      difference = std::max(difference, std::fabs(a - b));
    }
    CHECK(missing == 0, "%s: level %d left %lld of %lld elements unwritten", name.c_str(), level,
          static_cast<long long>(missing), static_cast<long long>(count));
    const double tolerance = out.dtype == HUNYUAN_F32 ? 1e-4 : out.dtype == HUNYUAN_BF16 ? 0.02 : 0;
    CHECK(difference <= tolerance * largest, "%s: level %d differs from the lowest by %g of %g", name.c_str(), level,
          difference, largest);
  }

  std::mt19937_64 random_;
  std::deque<Buffer> buffers_;
  std::vector<Output> outputs_;
};
