// residual_out = x + residual;  normed = residual_out * weight * rsqrt(mean(residual_out^2) + eps);
// codes, scales = quantize(normed)          for [rows, hidden] in bf16 or fp16; one quantizer for each mode.
//
// Fused because the unfused chain reads and writes the row three times. Here x and residual are read once,
// and the new residual and the codes are written once: 7 bytes an element for FP8, 6.56 for NVFP4. One row to
// a block, or to a cluster of blocks; the row stays in registers between the add and the quantization
// (norm_row.cuh).
#pragma once
#include "common/add_rmsnorm.h"
#include "common/calls.cuh"
#include "common/launch.cuh"
#include "common/norm_row.cuh"
#include "common/pdl.cuh"

namespace bwdeploy {

// Threads of a block, and blocks that a multiprocessor must be able to hold: limits that leave each kernel
// the registers it needs, and room for the loads of one block while another computes.
constexpr int max_threads(Spread spread, int packs, Mode mode) {
  if (packs > 1) return 512;
  return mode == Mode::kFp8PerToken && spread == Spread::kManyRows ? 512 : 1024;
}
constexpr int min_blocks(Spread spread, int packs, Mode mode) {
#if __CUDA_ARCH__ >= 1000  // not measured there: no limit
  return 1;
#else
  if (spread != Spread::kManyRows || packs == 2) return 1;
  return mode != Mode::kFp8PerToken ? 2 : packs == 1 ? 3 : 1;
#endif
}

struct AddRmsNormLaunch {
  AddRmsNormParams p;
  int row_groups;  // blocks or clusters that work on rows; those past them clear scale padding
  float inverse_hidden;
};

template <typename T, int K, Mode MODE, Spread SPREAD, bool EAGER>
__global__ void __launch_bounds__(max_threads(SPREAD, K, MODE), min_blocks(SPREAD, K, MODE))
    add_rmsnorm_quant_kernel(const __grid_constant__ AddRmsNormLaunch launch) {
  constexpr bool kCluster = SPREAD == Spread::kCluster;
  constexpr bool kShortest = SPREAD == Spread::kFewRows || kCluster;  // latency counts, not bandwidth
  const AddRmsNormParams& p = launch.p;
  __shared__ NormShared<MODE, kCluster> shared[2];

  // 1. Preamble: overlaps the end of the previous kernel and reads constants only.
  count_call();
  const RowTeam team = row_team<kCluster>();
  const RowSlice<K> slice(team, p.out.width);
  const int group = static_cast<int>(blockIdx.x) / team.blocks;
  const NormOutput output = {p.normed, p.out, p.eps, launch.inverse_hidden};
  const int column = slice.first * kPackWidth;
  const auto x_of = [&](int row) { return static_cast<const T*>(p.x) + row * p.x_stride + column; };
  const auto residual_of = [&](int row) {
    return static_cast<const T*>(p.residual) + row * p.residual_stride + column;
  };
  const T *first_x = x_of(group), *first_residual = residual_of(group);
  Pack weight[K];
  load_weight<T, K, kShortest>(p.weight, slice, weight);
  if constexpr (kShortest) settle(first_x), settle(first_residual);
  if constexpr (kCluster) row_barrier<true>();  // all blocks of the cluster run
  pdl_wait();
  if constexpr (SPREAD == Spread::kFewRows) pdl_launch_dependents();

  // 2. Scale padding: the blocks past the rows.
  if constexpr (MODE == Mode::kNvfp4Swizzled) {
    if (group >= launch.row_groups) {
      const int first = launch.row_groups * team.blocks;
      clear_padding_rows(p.out.scales, p.rows, p.out.width / kScaleBlock,
                         (static_cast<int>(blockIdx.x) - first) * static_cast<int>(blockDim.x) + threadIdx.x,
                         (static_cast<int>(gridDim.x) - first) * static_cast<int>(blockDim.x));
      return;
    }
  }

  // 3. Load the row.
  const float given = MODE == Mode::kFp8PerToken ? 0.f : load_scale(p.out.given);
  Pack x[K], residual[K];
  const auto load_row = [&](const T* x_at, const T* residual_at) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int past = k * slice.step * kPackWidth;
      x[k] = residual[k] = Pack{};
      if (!slice.active(k)) continue;
      x[k] = kShortest ? load_past_l1(x_at + past) : load(x_at + past);
      residual[k] = kShortest ? load_past_l1(residual_at + past) : load(residual_at + past);
    }
  };
  load_row(first_x, first_residual);

  for (int row = group, turn = 0;; turn ^= 1) {
    // 4. Add, and store the new residual.
    T* residual_out = static_cast<T*>(p.residual_out) + row * p.residual_out_stride + column;
    Pack sum[K];
#pragma unroll
    for (int k = 0; k < K; ++k) {
      sum[k] = add<T>(x[k], residual[k]);
      if (slice.active(k)) store(residual_out + k * slice.step * kPackWidth, sum[k]);
    }
    if constexpr (SPREAD != Spread::kFewRows) pdl_launch_dependents();
    const int next = row + launch.row_groups;
    if constexpr (SPREAD == Spread::kLoop) {
      if (next < p.rows) load_row(x_of(next), residual_of(next));
    }

    // 5. Normalize, quantize, store.
    normalize_and_quantize<T, K, MODE, kCluster, EAGER>(output, shared[turn], team, slice, row, sum, weight,
                                                        given);
    if (SPREAD != Spread::kLoop || next >= p.rows) break;
    row = next;
  }
}

// Threads of a block that spread `chunks` packs over `packs` a thread and `cluster` blocks.
constexpr int threads_for(int chunks, int packs, int cluster) {
  return round_up(divide_up(chunks, packs * cluster), 32);
}

// Blocks that clear the scales of missing rows; a few are enough, they overlap the others.
inline int padding_blocks(const AddRmsNormParams& p, int threads) {
  if (p.rows % kTileRows == 0) return 0;
  const int units = tiles_across(p.out.width / kScaleBlock) * kUnitsPerTile;
  const int blocks = divide_up(units, threads);
  return blocks < 64 ? blocks : 64;
}

template <typename T, int K, Mode MODE, Spread SPREAD, bool EAGER>
cudaError_t launch_spread(const AddRmsNormParams& p, const AddRmsNormConfig& config, cudaStream_t stream) {
  const auto kernel = add_rmsnorm_quant_kernel<T, K, MODE, SPREAD, EAGER>;
  const int threads = threads_for(p.out.width / kPackWidth, K, config.cluster);
  if (threads > max_threads(SPREAD, K, MODE)) return cudaErrorInvalidConfiguration;
  if (SPREAD == Spread::kCluster && threads / 32 * config.cluster > kMaxClusterPartials)
    return cudaErrorInvalidConfiguration;

  int groups = p.rows;
  if constexpr (SPREAD == Spread::kLoop) {
    int sms = 0, blocks = 0;
    cudaError_t error = multiprocessors(&sms);
    if (error == cudaSuccess)
      error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, 0);
    if (error != cudaSuccess) return error;
    if (sms * blocks < groups) groups = sms * blocks;
  }
  const int padding = MODE == Mode::kNvfp4Swizzled ? padding_blocks(p, threads) : 0;
  const LaunchShape shape = {groups * config.cluster + round_up(padding, config.cluster), threads,
                             config.cluster, p.pdl};
  return launch(kernel, AddRmsNormLaunch{p, groups, 1.f / static_cast<float>(p.out.width)}, shape, stream);
}

template <typename T, int K, Mode MODE, bool EAGER>
cudaError_t launch_packs(const AddRmsNormParams& p, const AddRmsNormConfig& config, cudaStream_t stream) {
  // two roundings per token: four packs of this row and of the next need more registers than 512 threads have
  constexpr bool kLoops = !(MODE == Mode::kFp8PerToken && K == 4 && EAGER);
  if ((config.spread == Spread::kCluster) != (config.cluster > 1)) return cudaErrorInvalidConfiguration;
  switch (config.spread) {
    case Spread::kFewRows:
      return launch_spread<T, K, MODE, Spread::kFewRows, EAGER>(p, config, stream);
    case Spread::kManyRows:
      return launch_spread<T, K, MODE, Spread::kManyRows, EAGER>(p, config, stream);
    case Spread::kCluster:
      return launch_spread<T, K, MODE, Spread::kCluster, EAGER>(p, config, stream);
    case Spread::kLoop:
      if constexpr (kLoops) return launch_spread<T, K, MODE, Spread::kLoop, EAGER>(p, config, stream);
      [[fallthrough]];
    default:
      return cudaErrorInvalidConfiguration;
  }
}

template <typename T, Mode MODE, bool EAGER>
cudaError_t launch_rounding(const AddRmsNormParams& p, const AddRmsNormConfig& config, cudaStream_t stream) {
  switch (config.packs) {
    case 1:
      return launch_packs<T, 1, MODE, EAGER>(p, config, stream);
    case 2:
      return launch_packs<T, 2, MODE, EAGER>(p, config, stream);
    case 4:
      return launch_packs<T, 4, MODE, EAGER>(p, config, stream);
    default:
      return cudaErrorInvalidConfiguration;
  }
}

// One row to a block or cluster. Refuses a config that does not fit with cudaErrorInvalidConfiguration.
template <typename T, Mode MODE>
cudaError_t launch_add_rmsnorm_quant(const AddRmsNormParams& p, const AddRmsNormConfig& config,
                                     cudaStream_t stream) {
  if (p.rows == 0) return cudaSuccess;
  return p.eager_rounding ? launch_rounding<T, MODE, true>(p, config, stream)
                          : launch_rounding<T, MODE, false>(p, config, stream);
}

}  // namespace bwdeploy
