// The CPU linear layer inside: what its units (AMX, AVX512-BF16, VNNI) share. Plain data only.
#pragma once

#include <stdint.h>

#include "hunyuan/linear.h"

namespace hunyuan::linear {

constexpr int64_t kPanel = 32;         // columns (and, for many rows, rows) of a block of sums
constexpr int64_t kTile = 1024;        // bytes of 16 weight columns times 16 dwords, packed: an AMX tile
constexpr int64_t kMostColumns = 256;  // of a task
constexpr int64_t kMostBlocks = 128;   // of 16 dwords that are packed at a time: 4096 bfloat16 or 8192 int8
constexpr int64_t kGroup = 8;          // strips whose sums exist at a time, where a row comes in two inputs

// A piece of the summed dimension; blocks of 16 dwords, the last one filled up with zeros.
struct Chunk {
  int input;              // which x
  int64_t first;          // its first column there
  int64_t columns;        // its columns
  int64_t weight_first;   // its first column in the weight
  int64_t blocks;         // of 16 dwords
  int64_t packed_offset;  // bytes per 16 columns before it
  int64_t phase;          // chunks of one phase are packed together
};

struct Job {
  const hunyuan_linear_args* args;
  const Chunk* chunks;
  int64_t chunk_count;
  int64_t packed_stride;     // bytes of 16 packed columns, all chunks of a phase
  int64_t rows;              // of a strip: 16 or 32
  int64_t strips_per_batch;  // strips never span samples
};

// Columns of out, and strips of rows: numbered through all samples.
struct Task {
  int64_t first_column;
  int64_t columns;
  int64_t first_strip;
  int64_t strips;
};

// A thread's memory; sizes for the largest task.
struct Scratch {
  char* packed;         // weights: [columns / 16][blocks][kTile]
  float* sums;          // [strips * columns / kPanel + 2][32][32]
  char* rows;           // 32 rows of a chunk
  float* scale;         // [kMostColumns] of the weight, 1 where it has none
  float* bias;          // [kMostColumns]
  int32_t* correction;  // [kMostColumns] what unsigned inputs add to each sum
};

using RunTask = void(const Job&, const Task&, const Scratch&);

}  // namespace hunyuan::linear

namespace hunyuan::amx {
linear::RunTask linear_bf16, linear_int8;
}
namespace hunyuan::avx512dot {
linear::RunTask linear_bf16, linear_int8;
}
