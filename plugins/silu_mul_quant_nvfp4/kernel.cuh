// out, scales = nvfp4(silu(gate) * up), with a global scale
//
//   gate, up         [rows, width], bf16 or fp16, row strides given, inner stride 1, 16-byte aligned rows
//   out              two e2m1 codes to a byte [rows, width / 2], the even column in the low nibble
//   scales           e4m3, one for each 16 columns: linear [rows, width / 16], or swizzled in tiles of
//                    128 x 4 with zeros as padding (common/scale_layout.cuh)
//   global scale     float32 [1], or [experts]
//   rows_per_expert  int32 [experts] or null: of the `capacity` rows that each expert owns only the first so
//                    many are real; the others and their scales are neither read nor written
// The product is rounded to the activation type before it is quantized, as the unfused operations do;
// common/fp4.cuh has the formula of the codes.
//
// Fused because the unfused chain writes the product and reads it again: here 4.56 bytes for each output
// element move (4 in, 0.56 out). A block of 16 stands alone, so threads take packs regardless of rows; lanes
// 2i and 2i + 1 hold the two packs of a block. Needs sm_90 or newer; rows * width / 8 below 2^31.
#pragma once
#include "common/calls.cuh"
#include "common/pdl.cuh"
#include "common/quantizer.cuh"
#include "common/silu_mul.cuh"

namespace bwdeploy {

template <typename T, int PACKS, Mode MODE, bool EAGER, bool GROUPED>
__global__ void __launch_bounds__(kMaxFlatThreads)
    silu_mul_quant_nvfp4(const __grid_constant__ SiluMulKernelParams p) {
  // 1. Preamble: overlaps the end of the previous kernel.
  count_call();
  FlatPacks<PACKS, GROUPED> packs(p);
  const int columns = p.given.out.width / kScaleBlock;
  pdl_wait();
  if (p.trigger == Trigger::kAfterWait) pdl_launch_dependents();

  // 2. Blocks past the rows clear the scales of the rows that pad the last tile.
  if constexpr (MODE == Mode::kNvfp4Swizzled) {
    const int past = static_cast<int>(blockIdx.x) - p.row_blocks;
    if (past >= 0) {
      clear_padding_rows(p.given.out.scales, p.given.rows, columns, past * blockDim.x + threadIdx.x,
                         (gridDim.x - p.row_blocks) * blockDim.x);
      return;
    }
  }

  // 3. Everything this thread reads.
  packs.load_rows(p);
  if (p.trigger == Trigger::kAfterLoads) pdl_launch_dependents();

  // 4. Multiply, quantize, store. The row's last pack also clears the scales that pad the row.
#pragma unroll
  for (int k = 0; k < PACKS; ++k) {
    const Quantizer<T, MODE> quantizer(packs.scale[k]);
    quantizer.store(p.given.out, packs.row[k], packs.pack[k], silu_mul<T, EAGER>(packs.gate[k], packs.up[k]),
                    packs.active[k]);
    if constexpr (MODE == Mode::kNvfp4Swizzled) {
      if (packs.active[k] && packs.pack[k] == 2 * columns - 1)
        for (int i = 0; i < kTileColumns - 1; ++i)
          clear_padding_columns(p.given.out.scales, packs.row[k], columns, i);
    }
  }
}

// The launch choice, from a sweep on an H100 over width 2048, 8192, 18432 and 1 to 8192 rows (README.md): two
// packs a thread only where the arithmetic of the codes, not latency, sets the pace.
inline SiluMulConfig nvfp4_config(const SiluMulParams& p) {
  const int64_t packs = total_packs(p);
  if (packs <= 131072) return {1, 64, 1, Trigger::kAfterLoads};
  if (packs < 2097152) return {1, 128, 1, Trigger::kAfterLoads};
  return {2, 64, 1, Trigger::kAfterLoads};
}

// Blocks that clear padding rows beside the work: enough that a thread clears one 16-byte unit.
template <Mode MODE>
int padding_blocks(const SiluMulParams& p, int threads) {
  if (MODE != Mode::kNvfp4Swizzled || p.rows % kTileRows == 0) return 0;
  return divide_up(tiles_across(p.out.width / kScaleBlock) * kUnitsPerTile, threads);
}

}  // namespace bwdeploy
