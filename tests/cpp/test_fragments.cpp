// Register fragments: two chained products S = Q K^T, O = P V computed register by register with the functions the
// kernels use, against plain loops; ldmatrix addresses against its definition.
#include <random>
#include <vector>

#include "check.h"
#include "common/ptx/fragment.h"

using namespace hunyuan::ptx;

namespace {

std::mt19937 random_bits(3);
int small() { return static_cast<int>(random_bits() % 7) - 3; }

struct Matrix {
  int rows, columns;
  std::vector<int> values;
  Matrix(int r, int c) : rows(r), columns(c), values(r * c) {}
  int& at(int r, int c) { return values[r * columns + c]; }
};

Matrix random_matrix(int rows, int columns) {
  Matrix m(rows, columns);
  for (int& value : m.values) value = small();
  return m;
}

// One warp's 16 rows of a product, in accumulator registers [lane][i], from the rows of the whole result.
std::vector<std::vector<int>> accumulators(Matrix& whole, int first_row) {
  std::vector<std::vector<int>> registers(32, std::vector<int>(whole.columns / 2));
  std::vector<int> seen(16 * whole.columns);
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < whole.columns / 2; ++i) {
      const int row = accumulator_row(lane, i), column = accumulator_column(lane, i);
      registers[lane][i] = whole.at(first_row + row, column);
      CHECK(seen[row * whole.columns + column]++ == 0, "element (%d, %d) is in two registers", row, column);
    }
  return registers;
}

// The instruction D += A B for one warp: every element of A is found in the register where the hardware expects it.
template <class Row, class Column>
void multiply(Matrix& d, int first_row, const std::vector<std::vector<int>>& a, int elements, Row row, Column column,
              Matrix& b, int first_k) {
  for (int lane = 0; lane < 32; ++lane)
    for (int r = 0; r < 4; ++r)
      for (int e = 0; e < elements; ++e)
        for (int n = 0; n < b.columns; ++n)
          d.at(first_row + row(lane, r), n) += a[lane][r * elements + e] * b.at(first_k + column(lane, r, e), n);
}

// P in accumulators becomes the 16-bit A operand of P V: pairs of neighboring registers.
void probabilities_of_16_bits(int keys, int width) {
  Matrix p = random_matrix(64, keys), v = random_matrix(keys, width), out(64, width);
  for (int warp = 0; warp < 4; ++warp) {
    const auto scores = accumulators(p, 16 * warp);
    for (int k = 0; k < keys; k += 16) {
      std::vector<std::vector<int>> a(32, std::vector<int>(8));
      for (int lane = 0; lane < 32; ++lane)
        for (int r = 0; r < 4; ++r)  // packed register j = k / 4 + r holds accumulators 2 j and 2 j + 1
          for (int e = 0; e < 2; ++e) a[lane][2 * r + e] = scores[lane][2 * (k / 4 + r) + e];
      multiply(out, 16 * warp, a, 2, operand16_row, operand16_column, v, k);
    }
  }
  for (int row = 0; row < 64; ++row)
    for (int n = 0; n < width; ++n) {
      int sum = 0;
      for (int k = 0; k < keys; ++k) sum += p.at(row, k) * v.at(k, n);
      CHECK(out.at(row, n) == sum, "16-bit P V at (%d, %d)", row, n);
    }
}

// The same with 8-bit operands: V's rows are stored in the order of key_of_position.
void probabilities_of_8_bits(int keys, int width) {
  Matrix p = random_matrix(64, keys), v = random_matrix(keys, width), renamed(keys, width), out(64, width);
  for (int k = 0; k < keys; ++k)
    for (int n = 0; n < width; ++n) renamed.at(k, n) = v.at(k / 32 * 32 + key_of_position(k % 32), n);
  for (int warp = 0; warp < 4; ++warp) {
    const auto scores = accumulators(p, 16 * warp);
    for (int k = 0; k < keys; k += 32) {
      std::vector<std::vector<int>> a(32, std::vector<int>(16));
      for (int lane = 0; lane < 32; ++lane)
        for (int r = 0; r < 4; ++r)
          for (int e = 0; e < 4; ++e) a[lane][4 * r + e] = scores[lane][accumulator_of_operand8(k / 8 + r, e)];
      multiply(out, 16 * warp, a, 4, operand8_row, operand8_column, renamed, k);
    }
  }
  for (int row = 0; row < 64; ++row)
    for (int n = 0; n < width; ++n) {
      int sum = 0;
      for (int k = 0; k < keys; ++k) sum += p.at(row, k) * v.at(k, n);
      CHECK(out.at(row, n) == sum, "8-bit P V at (%d, %d)", row, n);
    }
}

// ldmatrix gives lane l the elements (l / 4, 2 (l % 4) + e) of each 8 x 8 matrix; with .trans those of its transpose.
void matrices_arrive_as_operands() {
  for (int lane = 0; lane < 32; ++lane)
    for (int r = 0; r < 4; ++r)
      for (int e = 0; e < 2; ++e) {
        const int row = lane / 4, column = lane % 4 * 2 + e;
        const MatrixRow a = load_a(8 * r + row);
        CHECK(a.row == operand16_row(lane, r) && a.column + column == operand16_column(lane, r, e), "A register %d", r);
        const MatrixRow k = load_b_k_contiguous(8 * r + row);  // rows are n, columns k
        CHECK(k.row == r / 2 * 8 + operand_b_n(lane) && k.column + column == operand_b_k(lane, r % 2, e), "B %d", r);
        const MatrixRow n = load_b_n_contiguous(8 * r + column);  // rows are k, columns n, transposed on the way
        CHECK(n.row == operand_b_k(lane, r % 2, e) && n.column + row == r / 2 * 8 + operand_b_n(lane), "B trans %d", r);
      }
}

}  // namespace

int main() {
  probabilities_of_16_bits(176, 24);
  probabilities_of_16_bits(64, 8);
  probabilities_of_8_bits(128, 24);
  matrices_arrive_as_operands();
  return report();
}
