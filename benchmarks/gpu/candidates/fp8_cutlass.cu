// One candidate of the FP8 product from CUTLASS 3.x collectives as a shared object: TM x TN tiles, clusters of CM x CN,
// KERNEL and EPILOGUE schedules, WHAT: 0 bias, 1 bias and GELU, 2 bias, gate and residual.
//   out = act(d * row_scale * column_scale + bias), or residual + gate * that
#include <cuda_runtime.h>

#include "cutlass/cutlass.h"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/util/packed_stride.hpp"

namespace {
using namespace cute;
namespace fusion = cutlass::epilogue::fusion;
using E4m3 = cutlass::float_e4m3_t;
using Bf16 = cutlass::bfloat16_t;
using TileOf = Shape<Int<TM>, Int<TN>, _128>;
using ClusterOf = Shape<Int<CM>, Int<CN>, _1>;
constexpr auto kNearest = cutlass::FloatRoundStyle::round_to_nearest;

template <class T>
struct TanhGelu;
template <>
struct TanhGelu<float> {  // x / (1 + 2 ^ (x (a + b x x)))
  CUTLASS_DEVICE float operator()(float x) const {
    float power, inverse;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * fmaf(-0.102943240f, x * x, -2.302208198f)));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
    return x * inverse;
  }
};
template <int kCount>
struct TanhGelu<cutlass::Array<float, kCount>> {
  CUTLASS_DEVICE cutlass::Array<float, kCount> operator()(cutlass::Array<float, kCount> x) const {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kCount; ++i) x[i] = TanhGelu<float>{}(x[i]);
    return x;
  }
};

// CUTLASS calls a vector with one value a column a row, and the other way round.
using ByRow = fusion::Sm90ColBroadcast<0, TileOf, float>;
using ByColumn = fusion::Sm90RowBroadcast<0, TileOf, float>;
using BiasOf = fusion::Sm90RowBroadcast<0, TileOf, Bf16>;
using GateOf = fusion::Sm90RowBroadcast<0, TileOf, Bf16, Bf16, Stride<_0, _1, int64_t>>;
template <template <class> class Operation, class To = float>
using Compute = fusion::Sm90Compute<Operation, To, float, kNearest>;
using Scaled = fusion::Sm90EVT<Compute<cutlass::multiplies>, ByRow, fusion::Sm90AccFetch>;
using Biased = fusion::Sm90EVT<Compute<cutlass::homogeneous_multiply_add>, ByColumn, Scaled, BiasOf>;
#if WHAT == 0
using Tree = fusion::Sm90EVT<Compute<cutlass::epilogue::thread::Identity, Bf16>, Biased>;
using Source = void;
#elif WHAT == 1
using Tree = fusion::Sm90EVT<Compute<TanhGelu, Bf16>, Biased>;
using Source = void;
#else
using Tree = fusion::Sm90EVT<Compute<cutlass::homogeneous_multiply_add, Bf16>, GateOf, Biased, fusion::Sm90SrcFetch<Bf16>>;
using Source = Bf16;
#endif

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, TileOf, ClusterOf,
    cutlass::epilogue::collective::EpilogueTileAuto, float, float, Source, cutlass::layout::RowMajor, 8, Bf16,
    cutlass::layout::RowMajor, 8, cutlass::epilogue::EPILOGUE, Tree>::CollectiveOp;
constexpr int kEpilogueBytes = static_cast<int>(sizeof(typename Epilogue::SharedStorage));
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, E4m3, cutlass::layout::RowMajor, 16, E4m3,
    cutlass::layout::ColumnMajor, 16, float, TileOf, ClusterOf,
    cutlass::gemm::collective::StageCountAutoCarveout<kEpilogueBytes>, cutlass::gemm::KERNEL>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue,
                                                    cutlass::gemm::PersistentScheduler>;
using Device = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
}  // namespace

extern "C" __attribute__((visibility("default"))) int candidate_cutlass(
    const void* x, const void* weight, const float* x_scale, const float* weight_scale, const void* bias,
    const void* gate, const void* residual, void* out, int rows, int columns, int inner, int swizzle, int along_n,
    int processors, void* workspace, int64_t workspace_bytes, void* stream) {
  typename Tree::Arguments tree;
  typename Biased::Arguments biased{{weight_scale}, {{x_scale}, {}, {}}, {static_cast<const Bf16*>(bias)}, {}};
#if WHAT < 2
  tree = {biased, {}};
#else
  tree = {{static_cast<const Bf16*>(gate), Bf16(0), {_0{}, _1{}, int64_t{0}}}, biased, {}, {}};
#endif
  typename Kernel::Arguments arguments{
      cutlass::gemm::GemmUniversalMode::kGemm,
      {rows, columns, inner, 1},
      {static_cast<const E4m3*>(x), cutlass::make_cute_packed_stride(typename Kernel::StrideA{}, {rows, inner, 1}),
       static_cast<const E4m3*>(weight), cute::make_stride(int64_t{inner}, _1{}, int64_t{0})},
      {tree,
#if WHAT < 2
       nullptr,
       {},
#else
       static_cast<const Bf16*>(residual), cutlass::make_cute_packed_stride(typename Kernel::StrideC{}, {rows, columns, 1}),
#endif
       static_cast<Bf16*>(out), cutlass::make_cute_packed_stride(typename Kernel::StrideD{}, {rows, columns, 1})}};
  arguments.hw_info.sm_count = processors;
  arguments.scheduler.max_swizzle_size = swizzle;
  using Raster = decltype(arguments.scheduler.raster_order);
  arguments.scheduler.raster_order = along_n ? Raster::AlongN : Raster::AlongM;
  Device product;
  if (product.can_implement(arguments) != cutlass::Status::kSuccess) return 1;
  if (static_cast<int64_t>(Device::get_workspace_size(arguments)) > workspace_bytes) return 2;
  if (product.initialize(arguments, workspace, static_cast<cudaStream_t>(stream)) != cutlass::Status::kSuccess) return 3;
  return product.run(static_cast<cudaStream_t>(stream)) == cutlass::Status::kSuccess ? 0 : 4;
}
