// Replicate padding: where a position is copied to, and on the CPU, rows that are written to everywhere they appear.
// hunyuan_pad_causal_args has the layout.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/host/host_device.h"

namespace hunyuan {

// Where position `i` of a padded dimension comes from, seen from the source: source index s of `size` is copied to
// first..last. `before` copies of the first and `after` of the last.
struct Copies {
  int64_t first, last;
};
HUNYUAN_HOST_DEVICE constexpr Copies padded_copies(int64_t s, int64_t size, int64_t before, int64_t after) {
  return {s == 0 ? 0 : s + before, s + before + (s == size - 1 ? after : 0)};
}

// A volume of cells and its padded copy: the fields of hunyuan_pad_causal_args.
struct PaddedVolume {
  void* out;
  int64_t planes, frames, rows, columns, cell_bytes;
  int64_t pad_frames, pad_rows, pad_columns;
};

// A row is produced once, in place, and copied while it is in L1; rows are independent of each other.
class ReplicatePad {
 public:
  explicit ReplicatePad(const PaddedVolume& volume)
      : volume_(volume),
        row_bytes_((volume.columns + 2 * volume.pad_columns) * volume.cell_bytes),
        frame_bytes_((volume.rows + 2 * volume.pad_rows) * row_bytes_),
        plane_bytes_((volume.frames + volume.pad_frames) * frame_bytes_) {}

  int64_t row_count() const { return volume_.planes * volume_.frames * volume_.rows; }

  // Rows [begin, end) of the unpadded volume, in memory order: write(row, plane, destination) fills a row's
  // columns * cell_bytes bytes.
  template <class Write>
  void put_rows(int64_t begin, int64_t end, Write&& write) const {
    int64_t row = begin % volume_.rows, frame = begin / volume_.rows % volume_.frames;
    int64_t plane = begin / volume_.rows / volume_.frames;
    for (int64_t index = begin; index < end; ++index) {
      put_row(plane, frame, row, [&](char* destination) { write(index, plane, destination); });
      if (++row < volume_.rows) continue;
      row = 0;
      if (++frame < volume_.frames) continue;
      frame = 0;
      ++plane;
    }
  }

 private:
  template <class Write>
  void put_row(int64_t plane, int64_t frame, int64_t row, Write&& write) const {
    char* out = static_cast<char*>(volume_.out) + plane * plane_bytes_;
    const int64_t first_frame = frame == 0 ? 0 : frame + volume_.pad_frames;
    const int64_t first_row = row == 0 ? 0 : row + volume_.pad_rows;
    const int64_t last_row = row + volume_.pad_rows + (row == volume_.rows - 1 ? volume_.pad_rows : 0);
    char* first = out + first_frame * frame_bytes_ + first_row * row_bytes_;
    write(first + volume_.pad_columns * volume_.cell_bytes);
    pad_columns(first);
    for (int64_t f = first_frame; f <= frame + volume_.pad_frames; ++f)
      for (int64_t r = first_row; r <= last_row; ++r) {
        char* copy = out + f * frame_bytes_ + r * row_bytes_;
        if (copy != first) std::memcpy(copy, first, row_bytes_);
      }
  }

  // Both borders of a row whose middle is written; sizes known to the compiler where a cell is one element.
  void pad_columns(char* row) const {
    if (volume_.cell_bytes == 2) return repeat_borders(row, std::integral_constant<int64_t, 2>());
    if (volume_.cell_bytes == 4) return repeat_borders(row, std::integral_constant<int64_t, 4>());
    repeat_borders(row, volume_.cell_bytes);
  }

  template <class Bytes>
  void repeat_borders(char* row, Bytes cell) const {
    const int64_t pad = volume_.pad_columns;
    char* left = row + pad * cell;
    char* right = left + (volume_.columns - 1) * cell;
    for (int64_t i = 1; i <= pad; ++i) {
      std::memcpy(left - i * cell, left, cell);
      std::memcpy(right + i * cell, right, cell);
    }
  }

  PaddedVolume volume_;
  int64_t row_bytes_, frame_bytes_, plane_bytes_;
};

}  // namespace hunyuan
