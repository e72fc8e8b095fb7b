// torch.ops.bwdeploy.silu_mul_quant_nvfp4: checks, outputs, launch.
#include <optional>
#include <tuple>

#include "common/silu_mul_binding.h"

extern "C" {
int bwdeploy_silu_mul_quant_nvfp4_bf16_linear(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                              cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_bf16_swizzled(const bwdeploy::SiluMulParams*,
                                                const bwdeploy::SiluMulConfig*, cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_fp16_linear(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                              cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_fp16_swizzled(const bwdeploy::SiluMulParams*,
                                                const bwdeploy::SiluMulConfig*, cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_bf16_calls(unsigned long long*);
int bwdeploy_silu_mul_quant_nvfp4_fp16_calls(unsigned long long*);
}

namespace {

using namespace bwdeploy;

constexpr const char* kOp = "silu_mul_quant_nvfp4";
constexpr int64_t kScaleBlock = 16, kTileRows = 128, kTileColumns = 4;

SiluMulEntry entry_for(bool bf16, bool swizzled) {
  if (bf16)
    return swizzled ? bwdeploy_silu_mul_quant_nvfp4_bf16_swizzled : bwdeploy_silu_mul_quant_nvfp4_bf16_linear;
  return swizzled ? bwdeploy_silu_mul_quant_nvfp4_fp16_swizzled : bwdeploy_silu_mul_quant_nvfp4_fp16_linear;
}

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

std::tuple<Tensor, Tensor> silu_mul_quant_nvfp4(Tensor gate, Tensor up, Tensor global_scale, bool swizzled,
                                                std::optional<Tensor> rows_per_expert, bool eager_rounding,
                                                bool pdl) {
  const SiluMulInputs in = {gate, up, rows_per_expert, eager_rounding, pdl};
  const SiluMulSizes sizes = require_silu_inputs(in, kScaleBlock, kMaxSiluWidth);
  const int64_t capacity = sizes.rows / sizes.experts;
  require(!swizzled || !rows_per_expert.has_value() || capacity % kTileRows == 0, "gate",
          std::to_string(capacity) + " rows an expert",
          "a multiple of 128, so that no scale tile is shared (or swizzled=False)");
  const float* given = require_scale(global_scale, "global_scale", sizes.device, sizes.experts);
  const int64_t columns = sizes.width / kScaleBlock;
  const Tensor out = new_tensor(gate, {sizes.rows, sizes.width / 2}, ScalarType::Byte);
  const Tensor scales =
      swizzled ? new_tensor(gate, {round_up(sizes.rows, kTileRows), round_up(columns, kTileColumns)},
                            ScalarType::Float8_e4m3fn)
               : new_tensor(gate, {sizes.rows, columns}, ScalarType::Float8_e4m3fn);
  launch_silu(kOp, entry_for(sizes.bf16, swizzled), in, sizes,
              {out.data_ptr(), scales.data_ptr(), given, static_cast<int>(sizes.width)});
  return {out, scales};
}

int64_t silu_mul_quant_nvfp4_calls(int64_t device) {
  return counted_calls(kOp, device,
                       {bwdeploy_silu_mul_quant_nvfp4_bf16_calls, bwdeploy_silu_mul_quant_nvfp4_fp16_calls});
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bwdeploy, library) {
  library.def(
      "silu_mul_quant_nvfp4(Tensor gate, Tensor up, Tensor global_scale, *, bool swizzled=True, "
      "Tensor? rows_per_expert=None, bool eager_rounding=False, bool pdl=True) -> (Tensor out, Tensor "
      "scales)");
  library.def("silu_mul_quant_nvfp4_calls(int device) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CUDA, library) {
  library.impl("silu_mul_quant_nvfp4", TORCH_BOX(&silu_mul_quant_nvfp4));
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CompositeExplicitAutograd, library) {
  library.impl("silu_mul_quant_nvfp4_calls", TORCH_BOX(&silu_mul_quant_nvfp4_calls));
}
