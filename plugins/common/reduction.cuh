// Sums and maxima over a row that is spread over a block or over a cluster of blocks.
//
// Each warp reduces with shuffles and puts one partial result into shared memory (of every block of the
// cluster); after one barrier every thread reads all of them, so that no second barrier is needed to hand the
// result round. Maxima let NaN win, as torch.amax does.
#pragma once
#include <cuda_runtime.h>

#include "common/cluster.cuh"

namespace bwdeploy {

__device__ __forceinline__ float max_nan(float a, float b) {  // NaN wins, unlike fmaxf
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

struct Sum {
  static __device__ __forceinline__ float combine(float a, float b) { return a + b; }
};
struct Maximum {  // of magnitudes: 0 is neutral
  static __device__ __forceinline__ float combine(float a, float b) { return max_nan(a, b); }
};

template <typename Operation>
__device__ __forceinline__ float warp_reduce(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    value = Operation::combine(value, __shfl_xor_sync(~0u, value, offset));
  return value;
}

// Where a thread stands among those that share a row.
struct RowTeam {
  int lane, warp, warps;  // within the block
  int rank, blocks;       // within the cluster; 0 and 1 without one

  __device__ __forceinline__ int partials() const { return warps * blocks; }
};

template <bool CLUSTER>
__device__ __forceinline__ RowTeam row_team() {
  const int thread = static_cast<int>(threadIdx.x);
  RowTeam team = {thread & 31, thread >> 5, static_cast<int>(blockDim.x) >> 5, 0, 1};
  if constexpr (CLUSTER) {
    team.rank = cluster_rank();
    team.blocks = cluster_size();
  }
  return team;
}

constexpr int kMaxBlockPartials = 32;    // warps of 1024 threads
constexpr int kMaxClusterPartials = 64;  // 8 blocks of 256 threads

// One result of each warp that works on the row; those of warps that do not exist are 0, which is neutral.
template <bool CLUSTER>
struct Partials {
  static constexpr int kCapacity = CLUSTER ? kMaxClusterPartials : kMaxBlockPartials;
  alignas(16) float value[kCapacity];

  // Called by all lanes with the warp's result; the cluster must have been seen running (see cluster.cuh).
  __device__ __forceinline__ void put(const RowTeam& team, float warp_result) {
    if constexpr (CLUSTER) {
      if (team.lane < team.blocks)
        store_remote(&value[team.rank * team.warps + team.warp], team.lane, warp_result);
    } else {
      if (team.lane == 0) value[team.warp] = warp_result;
    }
    if (team.warp == team.warps - 1) {
#pragma unroll
      for (int i = 0; i < kCapacity; i += 32)
        if (i + team.lane >= team.partials()) value[i + team.lane] = 0.f;
    }
  }

  // Reads without a branch in between, so that they overlap: 8 or 16 at a time.
  template <typename Operation>
  __device__ __forceinline__ float combine(const RowTeam& team) const {
    float4 total = reinterpret_cast<const float4*>(value)[0];
    add<Operation, 4, 8>(total);
    if (team.partials() > 8) add<Operation, 8, 16>(total);
#pragma unroll
    for (int first = 16; first < kCapacity; first += 16)
      if (first < team.partials()) add<Operation, 0, 16>(total, first);
    return Operation::combine(Operation::combine(total.x, total.y), Operation::combine(total.z, total.w));
  }

 private:
  template <typename Operation, int FIRST, int END>
  __device__ __forceinline__ void add(float4& total, int past = 0) const {
#pragma unroll
    for (int i = FIRST; i < END; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(value + past + i);
      total.x = Operation::combine(total.x, four.x);
      total.y = Operation::combine(total.y, four.y);
      total.z = Operation::combine(total.z, four.z);
      total.w = Operation::combine(total.w, four.w);
    }
  }
};

// All partial results put before are visible after.
template <bool CLUSTER>
__device__ __forceinline__ void row_barrier() {
  if constexpr (CLUSTER) {
    cluster_arrive();
    cluster_wait();
  } else {
    __syncthreads();
  }
}

}  // namespace bwdeploy
