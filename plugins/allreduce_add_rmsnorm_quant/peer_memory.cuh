// How the ranks of a peer group hand each other rows.
//
// Each rank owns one allocation that all others have mapped (params.h). A rank polls and clears only its own
// and stores data only into those of others, so nothing is read across NVLink. Every 32-bit word of the data
// holds kNotArrived or a value: the data is its own flag, and there is no barrier between ranks. kNotArrived
// is a pair of NaNs; a pair of activations that happens to be it is sent as another pair of NaNs, so every
// number, -0 too, travels as it is.
//
// A launch uses the half that `calls` names. That counter lies in the rank's own memory and is advanced by
// the last block of each launch, so replays of a CUDA graph rotate too. Whoever has read a pack puts
// kNotArrived back at once. Two halves are enough. A rank that stores into a half in launch n + 2 has
// finished launch n + 1, so it has received something of launch n + 1 from every rank; and a rank sends in
// launch n + 1 only after its launch n, with all it read and cleared in that half, is over: launches of a
// stream follow each other, and sending comes after pdl_wait().
#pragma once
#include <cuda_runtime.h>

#include "allreduce_add_rmsnorm_quant/params.h"
#include "common/activation.cuh"

namespace bwdeploy {

constexpr uint32_t kNotArrived = 0xffffffffu;
constexpr uint32_t kOtherNans = 0x7fff7fffu;  // in bf16 and in fp16

__device__ __forceinline__ PeerState* peer_state(const PeerMemory& peers) {
  return static_cast<PeerState*>(peers.base[peers.layout.rank]);
}

// Where rank `at` finds a row: the row-th of `source`, another rank (inbox), or the sum of row `row`
// (gather).
__device__ __forceinline__ Pack* peer_row(const PeerMemory& peers, int at, uint32_t half, int place,
                                          int chunk) {
  Pack* data = reinterpret_cast<Pack*>(static_cast<char*>(peers.base[at]) + kPeerDataOffset);
  const PeerLayout& layout = peers.layout;
  return data + (static_cast<int>(half) * layout.half_packs + place * layout.row_packs + chunk);
}
__device__ __forceinline__ Pack* inbox_slot(const PeerMemory& peers, int at, uint32_t half, int source,
                                            int row, int chunk) {
  return peer_row(peers, at, half, (source - (source > at ? 1 : 0)) * peers.layout.inbox_rows + row, chunk);
}
__device__ __forceinline__ Pack* gather_slot(const PeerMemory& peers, int at, uint32_t half, int row,
                                             int chunk) {
  return peer_row(peers, at, half, (peers.layout.world - 1) * peers.layout.inbox_rows + row, chunk);
}

__device__ __forceinline__ Pack sendable(Pack v) {
#pragma unroll
  for (int i = 0; i < 4; ++i) v.word[i] = v.word[i] == kNotArrived ? kOtherNans : v.word[i];
  return v;
}

__device__ __forceinline__ void send(Pack* to, const Pack& v) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.word[0]),
               "r"(v.word[1]), "r"(v.word[2]), "r"(v.word[3])
               : "memory");
}

__device__ __forceinline__ Pack poll(const Pack* from) {
  Pack v;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(from)
               : "memory");
  return v;
}

// A 16-byte store may arrive in parts, so each word is looked at.
__device__ __forceinline__ bool arrived(const Pack& v) {
  return v.word[0] != kNotArrived && v.word[1] != kNotArrived && v.word[2] != kNotArrived &&
         v.word[3] != kNotArrived;
}

__device__ __forceinline__ void clear(Pack* at) {
  send(at, {kNotArrived, kNotArrived, kNotArrived, kNotArrived});
}

// BW_SPIN_LIMIT: builds that look for deadlocks trap after so many polls in place of waiting on.
struct Patience {
#ifdef BW_SPIN_LIMIT
  int left = BW_SPIN_LIMIT;
  __device__ __forceinline__ void wait() {
    if (--left == 0) __trap();
  }
#else
  __device__ __forceinline__ void wait() {}
#endif
};

// Every lane of the warp ends a wait with this, also those that had nothing to wait for. Lanes leave a
// polling loop one by one, and those that have left may run ahead of the others. The code behind the loop is
// compiled for whole warps: nvcc keeps the row counter in a register of the warp, and two groups of lanes
// would both advance it. Without this, NVFP4 with linear scales hung when a block had several rows, waiting
// for one that nobody sends.
__device__ __forceinline__ void end_wait() { __syncwarp(); }

// Wait for a pack and clear its place. The whole warp calls; lanes that are not active get zeros.
__device__ __forceinline__ Pack receive(Pack* from, bool active) {
  Patience patience;
  Pack v = {};
  bool waiting = active;
  while (waiting) {
    v = poll(from);
    waiting = !arrived(v);
    patience.wait();
  }
  end_wait();
  if (active) clear(from);
  return v;
}

// This rank's `mine` and what the others sent of the same chunk, added in float32 in the order of the ranks
// (so that all ranks get the same bits) and rounded once. `from` is the chunk of the first source, `stride`
// leads to the next. The whole warp calls; lanes that are not active get what they gave.
template <typename T, int WORLD>
__device__ __forceinline__ Pack receive_sum(Pack* from, int stride, int rank, const Pack& mine, bool active) {
  constexpr int kAtOnce = WORLD < 4 ? WORLD : 4;  // polled together: their latencies overlap
  const auto place = [&](int source) { return from + (source - (source > rank ? 1 : 0)) * stride; };
  float total[kPackWidth];
#pragma unroll
  for (int first = 0; first < WORLD; first += kAtOnce) {
    Pack v[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) v[i] = mine;
    Patience patience;
    bool waiting = active;
    while (waiting) {
      waiting = false;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (first + i != rank) v[i] = poll(place(first + i));
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) waiting |= first + i != rank && !arrived(v[i]);
      patience.wait();
    }
    end_wait();
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (active && first + i != rank) clear(place(first + i));
      float values[kPackWidth];
      unpack<T>(v[i], values);
#pragma unroll
      for (int j = 0; j < kPackWidth; ++j) total[j] = first + i == 0 ? values[j] : total[j] + values[j];
    }
  }
  return pack<T>(total);
}

// Called by one thread of each block once no thread of the block reads `calls` any more: the last block moves
// the group on to the other half. Split in two, so that the answer of the atomic is not waited for in
// between.
__device__ __forceinline__ uint32_t block_done(PeerState* state) {
  return atomicInc(&state->blocks_done, gridDim.x - 1);
}
__device__ __forceinline__ void advance(PeerState* state, uint32_t calls, uint32_t blocks_before) {
  if (blocks_before == gridDim.x - 1) state->calls = calls + 1;
}

}  // namespace bwdeploy
