// out = e4m3(silu(gate) * up / scale)
//
//   gate, up         [rows, width], bf16 or fp16, row strides given, inner stride 1, 16-byte aligned rows
//   out              e4m3 [rows, width], contiguous
//   scale            static: float32 [1], or [experts];  per token: written, float32 [rows],
//                    max(amax(row) / 448, 1 / (448 * 512))
//   rows_per_expert  int32 [experts] or null: of the `capacity` rows that each expert owns only the first so
//                    many are real; the others are neither read nor written
// The product is rounded to the activation type before it is quantized, as the unfused operations do.
//
// Fused because the unfused chain writes the product and reads it again: here 5 bytes for each output element
// move (4 in, 1 out). With a given scale every pack stands alone, so threads take packs regardless of rows
// and rows of any width fill the GPU. Per token, a block or a cluster of blocks holds a row in registers
// between its amax and its quotients. Needs sm_90 or newer (clusters, E4M3 conversion); rows * width / 8
// below 2^31.
#pragma once
#include "common/calls.cuh"
#include "common/pdl.cuh"
#include "common/quantizer.cuh"
#include "common/reduction.cuh"
#include "common/silu_mul.cuh"

namespace bwdeploy {

template <typename T, bool EAGER, bool GROUPED>
__global__ void __launch_bounds__(kMaxFlatThreads)
    silu_mul_quant_fp8_static(const __grid_constant__ SiluMulKernelParams p) {
  // 1. Preamble: overlaps the end of the previous kernel.
  count_call();
  FlatPacks<1, GROUPED> packs(p);
  pdl_wait();
  if (p.trigger == Trigger::kAfterWait) pdl_launch_dependents();

  // 2. Everything this thread reads.
  packs.load_rows(p);
  if (p.trigger == Trigger::kAfterLoads) pdl_launch_dependents();

  // 3. Multiply, quantize, store.
  const Quantizer<T, Mode::kFp8Static> quantizer(packs.scale[0]);
  quantizer.store(p.given.out, packs.row[0], packs.pack[0], silu_mul<T, EAGER>(packs.gate[0], packs.up[0]),
                  packs.active[0]);
}

// Registers of a block of 1024 threads allow 64 a thread: up to two packs of gate and up.
constexpr int per_token_max_threads(int packs) { return packs <= 2 ? 1024 : 768; }

template <typename T, int PACKS, bool CLUSTER, bool EAGER>
__global__ void __launch_bounds__(per_token_max_threads(PACKS))
    silu_mul_quant_fp8_per_token(const __grid_constant__ SiluMulKernelParams p) {
  __shared__ Partials<CLUSTER> maxima;

  // 1. Preamble: overlaps the end of the previous kernel.
  count_call();
  const RowTeam team = row_team<CLUSTER>();
  const int row = blockIdx.x / team.blocks, packs = p.by_packs.divisor;
  const int first = team.rank * blockDim.x * PACKS + threadIdx.x;
  if constexpr (CLUSTER) row_barrier<CLUSTER>();
  pdl_wait();
  if (p.trigger == Trigger::kAfterWait) pdl_launch_dependents();
  bool real = true;
  if (p.given.rows_per_expert != nullptr) expert_of(p, row, real);
  if (!real) return;  // all blocks of a cluster share the row

  // 2. Everything this thread reads.
  Pack gate[PACKS], up[PACKS];
#pragma unroll
  for (int k = 0; k < PACKS; ++k) {
    const int pack = first + k * blockDim.x;
    gate[k] = load_pack(p.given.gate, p.gate_row_bytes, row, pack, pack < packs);
    up[k] = load_pack(p.given.up, p.up_row_bytes, row, pack, pack < packs);
  }
  if (p.trigger == Trigger::kAfterLoads) pdl_launch_dependents();

  // 3. Multiply; largest magnitude of the row.
  Pack product[PACKS];
  uint32_t largest = 0;
#pragma unroll
  for (int k = 0; k < PACKS; ++k) {
    product[k] = silu_mul<T, EAGER>(gate[k], up[k]);
    largest = __vmaxu2(largest, pack_magnitude<T>(product[k]));
  }
  maxima.put(team, warp_reduce<Maximum>(magnitude_to_float<T>(largest)));
  row_barrier<CLUSTER>();
  const float scale = token_scale(maxima.template combine<Maximum>(team));

  // 4. Quantize, store.
  if (first == 0) static_cast<float*>(p.given.out.scales)[row] = scale;
  const Quantizer<T, Mode::kFp8PerToken> quantizer(scale);
#pragma unroll
  for (int k = 0; k < PACKS; ++k) {
    const int pack = first + k * blockDim.x;
    quantizer.store(p.given.out, row, pack, product[k], pack < packs);
  }
}

// The launch choice, from a sweep on an H100 over width 2048, 8192, 18432 and 1 to 8192 rows (README.md):
// what counts is how many packs there are. Few: small blocks, and the next kernel may come in at once. Many:
// larger blocks, because blocks start one after the other, and the next kernel only after the loads are under
// way.
inline SiluMulConfig static_config(const SiluMulParams& p) {
  const int64_t packs = total_packs(p);
  if (packs <= 8192) return {1, 128, 1, Trigger::kAfterWait};
  if (packs < 32768) return {1, 64, 1, Trigger::kAfterWait};
  return {1, 256, 1, Trigger::kAfterLoads};
}

// False if `config` cannot hold a row, or has more warps than the reduction takes.
inline bool per_token_fits(const SiluMulParams& p, const SiluMulConfig& config) {
  const int packs = p.out.width / kPackWidth, warps = config.threads / 32 * config.cluster;
  return config.cluster >= 1 && config.cluster <= 8 && config.threads % 32 == 0 &&
         config.threads <= per_token_max_threads(config.packs) &&
         packs <= config.threads * config.packs * config.cluster &&
         (config.cluster == 1 ? warps <= kMaxBlockPartials : warps <= kMaxClusterPartials);
}

// From the same sweep. A row of up to 16 rows is spread over a cluster from 8192 columns on. Otherwise a
// block takes it, with about as many threads for each pack as packs for each thread, and a cluster where a
// block is too small.
inline SiluMulConfig per_token_config(const SiluMulParams& p) {
  const int packs = p.out.width / kPackWidth;
  const bool spread = p.rows <= 16 && packs >= 1024;
  const Trigger trigger = p.rows < 512 ? Trigger::kAfterWait : Trigger::kAfterLoads;
  for (int cluster = spread ? 8 : 1; cluster <= 8; cluster *= 2) {
    for (int k = 1; k <= 4; ++k) {
      const SiluMulConfig config = {k, round_up(divide_up(packs, k * cluster), 32), cluster, trigger};
      if (config.threads <= 256 * k && per_token_fits(p, config)) return config;
    }
  }
  return {0, 0, 0, trigger};  // wider than kMaxPerTokenWidth
}

}  // namespace bwdeploy
