// What a launch is given, how the memory of a peer group is laid out, and how rows are spread. Plain C++, no
// CUDA.
#pragma once
#include <stdint.h>

#include "common/add_rmsnorm.h"

namespace bwdeploy {

constexpr int kMaxWorld = 8;
constexpr int kRowsMultiple = 128;         // of a group's rows: pieces of a longer call start at a scale tile
constexpr int kOneShotRows = 128;          // most rows of a one-shot launch of more than two ranks
constexpr int kMaxRowWidth = 16384;        // a chunk of 8 to a thread, 64 warps in a cluster
constexpr int64_t kPeerDataOffset = 4096;  // bytes

// Begins each rank's memory. Written by the rank itself, but for the greetings.
struct PeerState {
  uint32_t calls;                // launches so far; the lowest bit is the half in use
  uint32_t blocks_done;          // blocks of the running launch that no longer need `calls`
  uint32_t greeting[kMaxWorld];  // set-up only: each rank stores kGreeting to show that it can
};
constexpr uint32_t kGreeting = 0x68656c6f;

// After the state come half 0 and half 1 of the data, each
//   inbox   [world - 1 sources][inbox_rows][row_packs]  rows of the other ranks for this one
//   gather  [rows][row_packs]                           sums, from the owners of the rows (two shots)
// in packs of 16 bytes.
struct PeerLayout {
  int rank, world;
  int rows;        // most rows of one launch
  int inbox_rows;  // most rows that one rank sends to another in a launch
  int row_packs;   // packs in the widest row
  int half_packs;  // packs of inbox and gather together: places are counted in 31 bits
};

// With two ranks one shot sends no more bytes than two, so it may take all rows.
constexpr PeerLayout peer_layout(int rank, int world, int rows, int width) {
  const int two_shot = (rows + world - 1) / world;
  const int one_shot = world == 2 ? rows : kOneShotRows;
  const int inbox_rows = two_shot > one_shot ? two_shot : one_shot;
  const int row_packs = width / 8;
  return {rank, world, rows, inbox_rows, row_packs, ((world - 1) * inbox_rows + rows) * row_packs};
}

constexpr int64_t peer_bytes(const PeerLayout& layout) {
  return kPeerDataOffset + 2 * int64_t{layout.half_packs} * 16;
}

constexpr int kMaxPeerRows = 16384;
static_assert(2ll * ((kMaxWorld - 1) * (kMaxPeerRows / kMaxWorld) + kMaxPeerRows) * (kMaxRowWidth / 8) <
                  1ll << 31,
              "a place in the memory is counted in 31 bits");
static_assert(2ll * 2 * kMaxPeerRows * (kMaxRowWidth / 8) < 1ll << 31,
              "with two ranks, whose inbox holds all rows");

struct PeerMemory {
  PeerLayout layout;
  void* base[kMaxWorld];  // of each rank, as this process sees it
};

struct AllreduceNormParams {
  AddRmsNormParams norm;  // x is this rank's part of the sum
  PeerMemory peers;
  int ahead;  // set by the launch, from the config
};

enum class Shots : int { kOne, kTwo };

struct AllreduceConfig {
  int cluster;  // blocks that share a row: 1, 2, 4 or 8
  int teams;    // blocks or clusters in the grid, at most what is resident; 0: as many
  Shots shots;
  int ahead;  // turns that a team sends before it finishes one: rows, or with two shots a row of each rank
};

// The op's own choice. It depends on what all ranks share and never on the device: the squares of a row are
// added in an order that follows from the number of blocks, and all ranks must get the same bits.
constexpr AllreduceConfig allreduce_config(int world, int rows, int width) {
  const int least = width > 8192 ? 4 : 1;  // a lone block takes 1024 chunks, a block of a cluster 512
  const int cluster = rows <= 16 ? 8 : rows <= 32 ? 4 : rows <= 64 ? 2 : 1;
  return {cluster > least ? cluster : least, 0, world > 2 && rows > kOneShotRows ? Shots::kTwo : Shots::kOne,
          2};
}

}  // namespace bwdeploy
