// What add_rmsnorm_quant is given, for bindings, plugins and tests. Plain C++, no CUDA.
#pragma once
#include <stdint.h>

#include "common/mode.h"

namespace bwdeploy {

// Pointers to the activation type of the entry point, 16-byte aligned; strides in elements, multiples of 8.
struct AddRmsNormParams {
  const void* x;         // [rows, hidden]
  const void* residual;  // [rows, hidden]
  const void* weight;    // [hidden]
  void* residual_out;    // [rows, hidden] x + residual; may be residual
  void* normed;          // [rows, hidden] contiguous, or null
  QuantizedRows out;     // width: hidden
  int64_t x_stride, residual_stride, residual_out_stride;
  int rows;
  float eps;
  bool eager_rounding;  // round where unfused PyTorch rounds
  bool pdl;             // launch with programmatic dependent launch
};

enum class Spread : int {
  kFewRows,   // a block for each row; loads past L1, the next kernel may start right after the wait
  kManyRows,  // a block for each row
  kLoop,      // as many blocks as fit, which walk over the rows and load the next one ahead
  kCluster,   // several blocks for each row
};

// How the rows are spread over the machine; chosen by the op unless given (tuning, tests).
struct AddRmsNormConfig {
  Spread spread;
  int packs;    // of 8 elements a thread: 1, 2 or 4
  int cluster;  // blocks that share a row: 2, 4 or 8 with kCluster, else 1
};

constexpr int kMaxHidden = 65536;

}  // namespace bwdeploy
