// What the SwiGLU ops are given and how they may be launched. Plain C++: bindings and plugins include it too.
#pragma once
#include <stdint.h>

#include "common/mode.h"

namespace bwdeploy {

// out = quantize(silu(gate) * up) for `rows` rows of out.width columns.
struct SiluMulParams {
  const void* gate;                // [rows, width], inner stride 1
  const void* up;                  // likewise; may be the other half of the same matrix
  int64_t gate_stride, up_stride;  // from row to row, in elements, below 2^31
  const int32_t* rows_per_expert;  // [rows / capacity], how many rows of each are real; null: all
  int rows, capacity;              // capacity: rows of an expert's slot; `rows` where there are no experts
  QuantizedRows out;               // out.given: one scale, or one of each expert
  bool eager_rounding;             // round silu(gate) to the activation type before multiplying
  bool pdl;                        // launch as a programmatic dependent
};

// Where the next kernel may become resident: early costs this kernel room, late leaves less overlap.
enum class Trigger : int { kAfterWait, kAfterLoads };

struct SiluMulConfig {
  int packs;    // 16-byte packs of gate (and as many of up) that a thread holds
  int threads;  // per block, a multiple of 32
  int cluster;  // blocks that share a row (FP8 per token only); 1 elsewhere
  Trigger trigger;
};

constexpr int kMaxSiluWidth = 1 << 20;              // columns
constexpr int kMaxPerTokenWidth = 65536;            // a cluster of 8 blocks of 256 threads with 4 packs each
constexpr int64_t kMaxSiluPacks = (1LL << 31) - 1;  // rows * width / 8: packs are numbered in 31 bits

}  // namespace bwdeploy
