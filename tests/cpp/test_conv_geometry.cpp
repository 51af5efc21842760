// Indices of the implicit convolution: windows and taps against plain loops, every output element written once by
// either kernel's walk, 64 bits where a clip has more than 2^31 elements.
#include <algorithm>
#include <random>
#include <vector>

#include "check.h"
#include "common/matmul/tile_order.h"
#include "conv3d/geometry.h"

using namespace hunyuan::conv3d;
namespace matmul = hunyuan::matmul;

namespace {

std::mt19937 random_bits(5);
int pick(int low, int high) { return low + static_cast<int>(random_bits() % (high - low + 1)); }
int one_of(std::initializer_list<int> values) { return values.begin()[random_bits() % values.size()]; }

hunyuan_causal_conv3d_args random_problem(int most) {
  hunyuan_causal_conv3d_args args{};
  args.batch = pick(1, 3), args.channels = 8 * pick(1, 20), args.out_channels = pick(1, 300);
  for (int i = 0; i < 3; ++i) args.kernel[i] = one_of({1, 2, 3}), args.stride[i] = one_of({1, 2});
  args.frames = args.kernel[0] + pick(0, 4);
  args.rows = args.kernel[1] + pick(0, most), args.columns = args.kernel[2] + pick(0, most);
  return args;
}

bool once(const std::vector<int>& written) {
  return std::all_of(written.begin(), written.end(), [](int times) { return times == 1; });
}

// A tap of a window is the element that the definition of the convolution names, and lies inside the input.
void windows_and_taps() {
  for (int trial = 0; trial < 300; ++trial) {
    const Geometry g = geometry_of(random_problem(12));
    const int64_t size = g.batch * g.in_frames * g.in_rows * g.in_columns * g.channels;
    for (int64_t b = 0; b < g.batch; ++b)
      for (int64_t p = 0; p < g.positions(); p += pick(1, 7)) {
        const Point at = g.position(p);
        CHECK((at.frame * g.out_rows + at.row) * g.out_columns + at.column == p, "position");
        for (int64_t t = 0; t < g.taps(); ++t) {
          const Point tap = g.tap(t);
          CHECK((tap.frame * g.kernel[1] + tap.row) * g.kernel[2] + tap.column == t, "tap");
          const int64_t frame = at.frame * g.stride[0] + tap.frame, row = at.row * g.stride[1] + tap.row;
          const int64_t column = at.column * g.stride[2] + tap.column;
          CHECK(frame < g.in_frames && row < g.in_rows && column < g.in_columns, "trial %d: outside", trial);
          const int64_t wanted = (((b * g.in_frames + frame) * g.in_rows + row) * g.in_columns + column) * g.channels;
          const int64_t found = g.window(b, at) + g.tap_offset(t);
          CHECK(found == wanted && found + g.channels <= size, "trial %d", trial);
        }
      }
  }
}

// mma.sync kernel: a block takes 128 positions of a sample and a tile of columns.
void tiles_of_positions_cover_the_output() {
  for (int trial = 0; trial < 1000; ++trial) {
    const Geometry g = geometry_of(random_problem(10));
    const int64_t width = g.out_channels <= 32 ? 32 : 128, tile = 128;
    const int64_t per_sample = matmul::ceil_div(g.positions(), tile), columns = matmul::ceil_div(g.out_channels, width);
    std::vector<int> written(g.batch * g.positions() * g.out_channels);
    for (int64_t block = 0; block < g.batch * per_sample * columns; ++block) {
      const int64_t index = block / columns, sample = index / per_sample, first = index % per_sample * tile;
      for (int64_t p = first; p < std::min(first + tile, g.positions()); ++p)
        for (int64_t c = block % columns * width; c < std::min((block % columns + 1) * width, g.out_channels); ++c)
          ++written[g.output(sample, p) + c];
    }
    CHECK(once(written), "trial %d", trial);
  }
}

// wgmma kernel: pairs of boxes or of column tiles, walked by a persistent grid of clusters.
void boxes_cover_the_output() {
  for (int trial = 0; trial < 1000; ++trial) {
    const Geometry g = geometry_of(random_problem(40));
    const BoxGrid grid = best_grid(g);
    CHECK(grid.box.rows * grid.box.columns == kBoxPositions && grid.box.rows % 2 == 0, "box");
    const matmul::PairOrder order = matmul::pair_order(grid.count(), matmul::ceil_div(g.out_channels, 128), 1);
    const int cluster = order.sharing == matmul::Sharing::kNone ? 1 : 2, resident = pick(1, 66);
    std::vector<int> written(g.batch * g.positions() * matmul::ceil_div(g.out_channels, 128));
    const int64_t columns = matmul::ceil_div(g.out_channels, 128);
    for (int block = 0; block < resident * cluster; ++block)
      for (int64_t index = block / cluster; index < order.pairs.count(); index += resident) {
        const matmul::TileIndex tile = order.tile(index, block % cluster);
        const int64_t sample = grid.sample(tile.row);
        if (sample >= g.batch) continue;
        const Point corner = grid.corner(tile.row);
        for (int i = 0; i < kBoxPositions; ++i) {
          const int64_t row = corner.row + i / grid.box.columns, column = corner.column + i % grid.box.columns;
          if (row >= g.out_rows || column >= g.out_columns) continue;
          const int64_t position = (corner.frame * g.out_rows + row) * g.out_columns + column;
          ++written[(sample * g.positions() + position) * columns + tile.column];
        }
      }
    CHECK(once(written), "trial %d", trial);
  }
}

// Every box is as good as another in the number of tiles or worse than the one that was chosen.
void the_best_box_is_chosen() {
  for (int trial = 0; trial < 1000; ++trial) {
    const Geometry g = geometry_of(random_problem(200));
    for (const Box& box : kBoxes) CHECK(best_grid(g).count() <= box_grid(g, box).count(), "trial %d", trial);
  }
}

void a_clip_of_720p_needs_64_bits() {
  hunyuan_causal_conv3d_args args{};
  args.batch = 2, args.channels = 128, args.out_channels = 128;
  args.frames = 129 + 2, args.rows = 720 + 2, args.columns = 1280 + 2;
  for (int i = 0; i < 3; ++i) args.kernel[i] = 3, args.stride[i] = 1;
  const Geometry g = geometry_of(args);
  CHECK(g.positions() == 129ll * 720 * 1280 && g.output(1, 0) == 15217459200ll, "%lld elements a sample",
        static_cast<long long>(g.output(1, 0)));
  const int64_t last = g.positions() - 1;
  CHECK(g.output(1, last) + 127 == 2 * 15217459200ll - 1, "last output element");
  const __int128 size = static_cast<__int128>(2) * 131 * 722 * 1282 * 128;
  CHECK(g.window(1, g.position(last)) + g.tap_offset(26) + 127 == static_cast<int64_t>(size - 1), "last input element");
  const BoxGrid grid = best_grid(g);
  const Point corner = grid.corner(grid.count() - 1);
  CHECK(grid.sample(grid.count() - 1) == 1 && corner.frame == 128, "last box");
  CHECK(corner.row + grid.box.rows >= 720 && corner.column + grid.box.columns >= 1280, "last box");
}

}  // namespace

int main() {
  windows_and_taps();
  tiles_of_positions_cover_the_output();
  boxes_cover_the_output();
  the_best_box_is_chosen();
  a_clip_of_720p_needs_64_bits();
  return report();
}
