// sum       = x of all ranks, added in float32 in the order of the ranks, rounded to the activation type
// residual' = sum + residual, rounded to the activation type
// normed    = residual' * weight * rsqrt(mean(residual'^2) + eps), rounded once, or where PyTorch rounds
// out       = quantize(normed)
//
// x, residual [rows, hidden] in bf16 or fp16, row strides given, inner stride 1; weight [hidden]; residual'
// [rows, hidden] with a row stride; normed (optional) [rows, hidden]; codes and scales as common/mode.h says.
//
// Fused because at a few rows nothing but latency counts: an all-reduce, a norm and a quantize are three
// launches, a barrier between the ranks and three trips of the row through memory. Here each rank stores its
// row straight into the memory of the others and finishes the row from registers as soon as theirs have come.
//
// One shot: every rank sends every row to all others; one trip.
//   (world - 1) * rows * hidden * 2 bytes leave each rank
// Two shots: row r belongs to rank r % world, which collects it, sums it and sends the sum to all; two trips.
//   2 * (world - 1) / world * rows * hidden * 2 bytes leave each rank
//
// A team (a block, or a cluster of blocks) works on a row, each thread on one 16-byte chunk of it. A team
// sends its rows some turns before it waits for them, and the grid never exceeds what is resident at once.
//
// Needs: hidden a multiple of 8 (FP8) or 16 (NVFP4), 16384 at most; the same rows, hidden and type on all
// ranks; calls of one group in the same order on all ranks, in one stream at a time; GPUs of one model, so
// that all ranks launch the same grid.
#pragma once
#include <atomic>

#include "allreduce_add_rmsnorm_quant/params.h"
#include "allreduce_add_rmsnorm_quant/peer_memory.cuh"
#include "common/calls.cuh"
#include "common/launch.cuh"
#include "common/norm_row.cuh"
#include "common/pdl.cuh"

namespace bwdeploy {

// A cluster of four takes the widest row with 512 threads a block, so its kernels may use 128 registers.
constexpr int max_block(bool cluster) { return cluster ? 512 : 1024; }

// Which rows a team works on, in its order.
template <int WORLD, bool TWO_SHOT>
struct Turns {
  int first, teams, rank, rows;

  // One shot: a unit is a row. Two shot: a unit is a row of each owner, the own one first: its sum is there
  // first.
  __device__ __forceinline__ int units() const { return TWO_SHOT ? (rows + WORLD - 1) / WORLD : rows; }
  __device__ __forceinline__ int count() const {
    return (units() - first + teams - 1) / teams * (TWO_SHOT ? WORLD : 1);
  }
  // May lie past the last row with two shots.
  __device__ __forceinline__ int row(int turn) const {
    if constexpr (TWO_SHOT) return (first + turn / WORLD * teams) * WORLD + ((rank + turn) & (WORLD - 1));
    return first + turn * teams;
  }
};

template <typename T, Mode MODE, int WORLD, bool CLUSTER, bool TWO_SHOT>
__global__ void __launch_bounds__(max_block(CLUSTER))
    allreduce_add_rmsnorm_quant_kernel(const __grid_constant__ AllreduceNormParams params) {
  static_assert(WORLD == 2 || WORLD == 4 || WORLD == 8,
                "ranks are picked with masks, and a node has 8 GPUs at most");
  const AddRmsNormParams& p = params.norm;
  const PeerMemory& peers = params.peers;
  __shared__ NormShared<MODE, CLUSTER> shared[2];

  // 1. Preamble: overlaps the end of the previous kernel and reads constants only.
  count_call();
  const RowTeam team = row_team<CLUSTER>();
  const RowSlice<1> slice(team, p.out.width);
  const int chunk = slice.first, column = chunk * kPackWidth, rank = peers.layout.rank;
  const bool active = slice.active(0);
  Pack weight[1];
  load_weight<T>(p.weight, slice, weight);
  const Turns<WORLD, TWO_SHOT> turns = {static_cast<int>(blockIdx.x) / team.blocks,
                                        static_cast<int>(gridDim.x) / team.blocks, rank, p.rows};
  if constexpr (CLUSTER) cluster_arrive();
  pdl_wait();
  pdl_launch_dependents();
  const float given = MODE == Mode::kFp8PerToken ? 0.f : load_scale(p.out.given);

  const auto load_x = [&](int row) {
    return active ? load(static_cast<const T*>(p.x) + row * p.x_stride + column) : Pack{};
  };
  const auto load_residual = [&](int row) {
    return active ? load(static_cast<const T*>(p.residual) + row * p.residual_stride + column) : Pack{};
  };
  PeerState* const state = peer_state(peers);
  const uint32_t calls = *static_cast<volatile uint32_t*>(&state->calls);
  const uint32_t half = calls & 1;

  // 2. Send the first rows. With two shots the owner of a row keeps it as the (row / world)-th of its rows.
  const int count = turns.count();
  const int neighbor = rank == 0 ? 1 : 0;  // the first of the other ranks
  const int source_stride = peers.layout.inbox_rows * peers.layout.row_packs;
  Pack mine = {}, residual = {};
  if constexpr (!TWO_SHOT) {
    mine = load_x(turns.row(0));
    residual = load_residual(turns.row(0));
  }
  int sent = 0;
  const auto send_rows = [&](int end) {
#pragma unroll 1
    for (; sent < end && sent < count; ++sent) {
      const int row = turns.row(sent);
      if constexpr (TWO_SHOT) {
        const int owner = row & (WORLD - 1);
        if (row >= p.rows || owner == rank || !active) continue;
        send(inbox_slot(peers, owner, half, rank, row / WORLD, chunk), sendable(load_x(row)));
      } else {
        const Pack v = sendable(sent == 0 ? mine : load_x(row));
        if (!active) continue;
#pragma unroll
        for (int i = 1; i < WORLD; ++i)  // starting with the next rank, so that not all send to the same one
          send(inbox_slot(peers, (rank + i) & (WORLD - 1), half, rank, row, chunk), v);
      }
    }
  };
  // Two shots: sum the own rows and send the sums to all, this rank included.
  int summed = 0;
  const auto send_sums = [&](int end) {
#pragma unroll 1
    for (; summed < end && summed < count; summed += WORLD) {
      const int row = turns.row(summed);
      if (row >= p.rows) continue;
      Pack* const inbox = inbox_slot(peers, rank, half, neighbor, row / WORLD, chunk);
      const Pack sum = sendable(receive_sum<T, WORLD>(inbox, source_stride, rank, load_x(row), active));
      if (!active) continue;
#pragma unroll
      for (int i = 0; i < WORLD; ++i)
        send(gather_slot(peers, (rank + i) & (WORLD - 1), half, row, chunk), sum);
    }
  };
  // By how much sending runs ahead of finishing. No circle of waits: whoever waits for a row has sent all
  // that others need to get as far as it has come itself.
  const int ahead = params.ahead;
  const auto rows_until = [&](int turn) {
    return TWO_SHOT ? (turn / WORLD + 1 + 2 * ahead) * WORLD : turn + 1 + ahead;
  };
  const auto sums_until = [&](int turn) { return (turn / WORLD + 1 + ahead) * WORLD; };
  send_rows(rows_until(0));

  // 3. While the rows are under way: this block has read `calls`, and scale padding is cleared.
  __syncthreads();
  uint32_t blocks_before = 0;
  if (threadIdx.x == 0) blocks_before = block_done(state);
  if constexpr (MODE == Mode::kNvfp4Swizzled)
    clear_padding_rows(p.out.scales, p.rows, p.out.width / kScaleBlock, blockIdx.x * blockDim.x + threadIdx.x,
                       gridDim.x * blockDim.x);
  if constexpr (CLUSTER) cluster_wait();

  // 4. Finish row after row, and send further ones. With one shot the next row's loads are under way while
  // this one is reduced.
  const NormOutput output = {p.normed, p.out, p.eps, 1.f / static_cast<float>(p.out.width)};
#pragma unroll 1
  for (int turn = 0, which = 0; turn < count; ++turn) {
    send_rows(rows_until(turn));
    if constexpr (TWO_SHOT) send_sums(sums_until(turn));
    const int row = turns.row(turn);
    if (TWO_SHOT && row >= p.rows) continue;
    Pack sum[1];
    if constexpr (TWO_SHOT) {
      residual = load_residual(row);
      sum[0] = receive(gather_slot(peers, rank, half, row, chunk), active);
    } else {
      Pack* const inbox = inbox_slot(peers, rank, half, neighbor, row, chunk);
      sum[0] = receive_sum<T, WORLD>(inbox, source_stride, rank, mine, active);
    }
    sum[0] = add<T>(sum[0], residual);
    if (active) store(static_cast<T*>(p.residual_out) + row * p.residual_out_stride + column, sum[0]);
    if (!TWO_SHOT && turn + 1 < count) {
      mine = load_x(turns.row(turn + 1));
      residual = load_residual(turns.row(turn + 1));
    }
    if (p.eager_rounding)
      normalize_and_quantize<T, 1, MODE, CLUSTER, true>(output, shared[which], team, slice, row, sum, weight,
                                                        given);
    else
      normalize_and_quantize<T, 1, MODE, CLUSTER, false>(output, shared[which], team, slice, row, sum, weight,
                                                         given);
    which ^= 1;
  }
  if (threadIdx.x == 0) advance(state, calls, blocks_before);
}

// Teams of a kernel that are resident at once. Asking the driver takes microseconds, so the last answer for
// each cluster size is kept, with the question packed beside it.
template <void (*KERNEL)(AllreduceNormParams)>
cudaError_t resident_teams(int threads, int cluster, int* teams) {
  static std::atomic<uint64_t> answers[4];
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  std::atomic<uint64_t>& kept = answers[cluster == 1 ? 0 : cluster == 2 ? 1 : cluster == 4 ? 2 : 3];
  const uint64_t question = static_cast<uint64_t>(device + 1) << 48 | static_cast<uint64_t>(threads) << 32;
  const uint64_t answer = kept.load(std::memory_order_relaxed);
  if ((answer & ~0xffffffffull) == question) {
    *teams = static_cast<int>(answer & 0xffffffffull);
    return cudaSuccess;
  }
  if (cluster == 1) {
    int sms = 0, blocks = 0;
    error = multiprocessors(&sms);
    if (error == cudaSuccess)
      error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, KERNEL, threads, 0);
    *teams = sms * blocks;
  } else {
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = cluster;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t launch = {};
    launch.gridDim = dim3(cluster);
    launch.blockDim = dim3(threads);
    launch.attrs = &attribute;
    launch.numAttrs = 1;
    error = cudaOccupancyMaxActiveClusters(teams, KERNEL, &launch);
  }
  if (error != cudaSuccess) return error;
  if (*teams < 1) return cudaErrorInvalidConfiguration;
  kept.store(question | static_cast<uint32_t>(*teams), std::memory_order_relaxed);
  return cudaSuccess;
}

template <typename T, Mode MODE, int WORLD, bool CLUSTER, bool TWO_SHOT>
cudaError_t launch_shots(const AllreduceNormParams& params, const AllreduceConfig& config,
                         cudaStream_t stream) {
  constexpr auto kKernel = allreduce_add_rmsnorm_quant_kernel<T, MODE, WORLD, CLUSTER, TWO_SHOT>;
  const int chunks = params.norm.out.width / kPackWidth;
  const int threads = round_up(divide_up(chunks, config.cluster), 32);
  if (threads > max_block(CLUSTER) || (CLUSTER && threads / 32 * config.cluster > kMaxClusterPartials))
    return cudaErrorInvalidConfiguration;
  int teams = 0;
  const cudaError_t error = resident_teams<kKernel>(threads, config.cluster, &teams);
  if (error != cudaSuccess) return error;
  if (config.teams > 0 && config.teams < teams) teams = config.teams;
  const int units = TWO_SHOT ? divide_up(params.norm.rows, WORLD) : params.norm.rows;
  if (units < teams) teams = units;
  AllreduceNormParams spread = params;
  spread.ahead = config.ahead;
  return launch(kKernel, spread, {teams * config.cluster, threads, config.cluster, params.norm.pdl}, stream);
}

// One launch: at most as many rows as the group holds.
template <typename T, Mode MODE, int WORLD>
cudaError_t launch_rows(const AllreduceNormParams& params, const AllreduceConfig* given,
                        cudaStream_t stream) {
  const AllreduceConfig config =
      given != nullptr ? *given : allreduce_config(WORLD, params.norm.rows, params.norm.out.width);
  const bool two_shot = config.shots == Shots::kTwo;
  if (!two_shot && params.norm.rows > params.peers.layout.inbox_rows) return cudaErrorInvalidConfiguration;
  if (config.cluster == 1)
    return two_shot ? launch_shots<T, MODE, WORLD, false, true>(params, config, stream)
                    : launch_shots<T, MODE, WORLD, false, false>(params, config, stream);
  return two_shot ? launch_shots<T, MODE, WORLD, true, true>(params, config, stream)
                  : launch_shots<T, MODE, WORLD, true, false>(params, config, stream);
}

// The same params with `rows` rows from row `first` on, a multiple of 128.
template <typename T, Mode MODE>
AllreduceNormParams rows_from(const AllreduceNormParams& params, int first, int rows) {
  AllreduceNormParams part = params;
  AddRmsNormParams& p = part.norm;
  const auto advance = [first](auto* pointer, int64_t bytes_a_row) {
    return static_cast<decltype(pointer)>(const_cast<char*>(static_cast<const char*>(pointer)) +
                                          first * bytes_a_row);
  };
  const int64_t width = p.out.width;
  p.rows = rows;
  p.x = advance(p.x, p.x_stride * sizeof(T));
  p.residual = advance(p.residual, p.residual_stride * sizeof(T));
  p.residual_out = advance(p.residual_out, p.residual_out_stride * sizeof(T));
  if (p.normed != nullptr) p.normed = advance(p.normed, width * sizeof(T));
  p.out.codes = advance(p.out.codes, kIsNvfp4<MODE> ? width / 2 : width);
  if (MODE == Mode::kFp8PerToken) p.out.scales = advance(p.out.scales, sizeof(float));
  if (MODE == Mode::kNvfp4Linear) p.out.scales = advance(p.out.scales, width / kScaleBlock);
  if (MODE == Mode::kNvfp4Swizzled)
    p.out.scales =
        advance(p.out.scales, int64_t{kTileBytes} / kTileRows * tiles_across(p.out.width / kScaleBlock));
  return part;
}

template <typename T, Mode MODE, int WORLD>
cudaError_t launch_allreduce_add_rmsnorm_quant(const AllreduceNormParams& params,
                                               const AllreduceConfig* config, cudaStream_t stream) {
  const int most = params.peers.layout.rows;
  for (int first = 0; first < params.norm.rows; first += most) {
    const int left = params.norm.rows - first;
    const AllreduceNormParams part = rows_from<T, MODE>(params, first, left < most ? left : most);
    const cudaError_t error = launch_rows<T, MODE, WORLD>(part, config, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace bwdeploy
