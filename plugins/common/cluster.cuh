// Thread block clusters: several blocks of one row exchange partial results through distributed shared
// memory.
//
// A block may be written to once all blocks of the cluster run (one arrive/wait pair at the start), and must
// not exit while others may still write to it (they write before the arrive/wait pair that publishes the
// results).
#pragma once
#include <stdint.h>

namespace bwdeploy {

__device__ __forceinline__ int cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

__device__ __forceinline__ int cluster_size() {
  uint32_t size;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return static_cast<int>(size);
}

__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Store to the same shared variable of block `rank` of the cluster.
__device__ __forceinline__ void store_remote(float* shared, int rank, float value) {
  const uint32_t local = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  uint32_t remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(value) : "memory");
}

}  // namespace bwdeploy
