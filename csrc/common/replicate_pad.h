// Writes one row of a replicate-padded volume to everywhere it appears: see hunyuan_pad_causal_args for the layout.
// A row is produced once, in place, and copied while it is in L1; rows are independent of each other.
#pragma once

#include <cstdint>
#include <cstring>

#include "hunyuan_ext.h"

namespace hunyuan {

class ReplicatePad {
 public:
  explicit ReplicatePad(const hunyuan_pad_causal_args& volume)
      : volume_(volume),
        row_bytes_((volume.columns + 2 * volume.pad_columns) * volume.cell_bytes),
        frame_bytes_((volume.rows + 2 * volume.pad_rows) * row_bytes_),
        plane_bytes_((volume.frames + volume.pad_frames) * frame_bytes_) {}

  int64_t row_count() const { return volume_.planes * volume_.frames * volume_.rows; }

  // Row `index` of the unpadded volume, in memory order: write(destination) fills its columns * cell_bytes bytes.
  template <class Write>
  void put_row(int64_t index, Write&& write) const {
    const int64_t row = index % volume_.rows, frame = index / volume_.rows % volume_.frames;
    char* plane = static_cast<char*>(volume_.out) + index / volume_.rows / volume_.frames * plane_bytes_;
    const int64_t first_frame = frame == 0 ? 0 : frame + volume_.pad_frames;
    const int64_t first_row = row == 0 ? 0 : row + volume_.pad_rows;
    const int64_t last_row = row + volume_.pad_rows + (row == volume_.rows - 1 ? volume_.pad_rows : 0);
    char* first = plane + first_frame * frame_bytes_ + first_row * row_bytes_;
    write(first + volume_.pad_columns * volume_.cell_bytes);
    pad_columns(first);
    for (int64_t f = first_frame; f <= frame + volume_.pad_frames; ++f)
      for (int64_t r = first_row; r <= last_row; ++r) {
        char* copy = plane + f * frame_bytes_ + r * row_bytes_;
        if (copy != first) std::memcpy(copy, first, row_bytes_);
      }
  }

 private:
  void pad_columns(char* row) const {
    const int64_t cell = volume_.cell_bytes, pad = volume_.pad_columns;
    char* left = row + pad * cell;
    char* right = left + (volume_.columns - 1) * cell;
    for (int64_t i = 1; i <= pad; ++i) {
      std::memcpy(left - i * cell, left, cell);
      std::memcpy(right + i * cell, right, cell);
    }
  }

  hunyuan_pad_causal_args volume_;
  int64_t row_bytes_, frame_bytes_, plane_bytes_;
};

}  // namespace hunyuan
