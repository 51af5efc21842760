// Statistics in pieces and the plan that cuts a volume into them; where replicate padding puts every element.
#include "common/host/moments.h"
#include "common/host/replicate_pad.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.h"

using namespace hunyuan;

namespace {

std::mt19937 random_bits(13);
int pick(int low, int high) { return low + static_cast<int>(random_bits() % (high - low + 1)); }

template <class Real, class Iterator>
MomentsOf<Real> moments_of(Iterator begin, Iterator end) {
  MomentsOf<Real> out{static_cast<Real>(end - begin), 0, 0};
  if (begin == end) return out;
  double sum = 0, squares = 0;
  for (auto i = begin; i != end; ++i) sum += *i;
  const double mean = sum / (end - begin);
  for (auto i = begin; i != end; ++i) squares += (*i - mean) * (*i - mean);
  out.mean = static_cast<Real>(mean), out.squares = static_cast<Real>(squares);
  return out;
}

void pieces_merge_to_the_whole() {
  for (int trial = 0; trial < 1000; ++trial) {
    std::normal_distribution<double> normal(pick(-3000, 3000), 1.0);
    std::vector<double> values(pick(1, 500));
    for (double& value : values) value = normal(random_bits);
    MomentsOf<double> merged{0, 0, 0};
    for (size_t from = 0; from < values.size();) {
      const size_t to = std::min(values.size(), from + pick(0, 90));  // some pieces are empty
      merged.add(moments_of<float>(values.begin() + from, values.begin() + to));
      from = to;
    }
    const auto exact = moments_of<double>(values.begin(), values.end());
    CHECK(merged.count == exact.count, "trial %d", trial);
    CHECK(std::abs(merged.mean - exact.mean) < 4e-4, "trial %d: mean", trial);  // half a float32 step at 3000 is 1.2e-4
    CHECK(std::abs(merged.squares - exact.squares) < 1e-3 * exact.squares + 1e-4, "trial %d: %g, not %g", trial,
          merged.squares, exact.squares);
  }
}

void chunks_cover_a_sample() {
  for (int trial = 0; trial < 1000; ++trial) {
    const int64_t positions = int64_t{1} + random_bits() % (trial < 500 ? 5000 : 4000000000u), channels = 8 * pick(1, 256);
    const ChunkPlan plan = chunk_plan(positions, channels);
    CHECK(plan.positions == positions && plan.chunks >= 1 && plan.chunks <= 4096, "trial %d", trial);
    CHECK((plan.chunks - 1) * plan.positions_per_chunk < positions, "trial %d: the last chunk is empty", trial);
    CHECK(plan.chunks * plan.positions_per_chunk >= positions, "trial %d: positions are left", trial);
  }
}

void every_padded_index_is_written_once() {
  for (int trial = 0; trial < 1000; ++trial) {
    const int size = pick(1, 20), before = pick(0, 4), after = pick(0, 4);
    std::vector<int> source(size + before + after, -1);
    for (int s = 0; s < size; ++s) {
      const Copies copies = padded_copies(s, size, before, after);
      for (int64_t i = copies.first; i <= copies.last; ++i) {
        CHECK(i >= 0 && i < size + before + after && source[i] == -1, "trial %d: index %d", trial, static_cast<int>(i));
        source[i] = s;
      }
    }
    for (int i = 0; i < size + before + after; ++i) {
      const int wanted = std::min(std::max(i - before, 0), size - 1);
      CHECK(source[i] == wanted, "trial %d: index %d comes from %d, not %d", trial, i, source[i], wanted);
    }
  }
}

}  // namespace

int main() {
  pieces_merge_to_the_whole();
  chunks_cover_a_sample();
  every_padded_index_is_written_once();
  return report();
}
