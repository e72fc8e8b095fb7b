// torch.ops.bwdeploy.silu_mul_quant_fp8: checks, outputs, launch.
#include <optional>
#include <tuple>

#include "common/silu_mul_binding.h"

extern "C" {
int bwdeploy_silu_mul_quant_fp8_bf16_static(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                            cudaStream_t);
int bwdeploy_silu_mul_quant_fp8_bf16_per_token(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                               cudaStream_t);
int bwdeploy_silu_mul_quant_fp8_fp16_static(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                            cudaStream_t);
int bwdeploy_silu_mul_quant_fp8_fp16_per_token(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                               cudaStream_t);
int bwdeploy_silu_mul_quant_fp8_bf16_calls(unsigned long long*);
int bwdeploy_silu_mul_quant_fp8_fp16_calls(unsigned long long*);
}

namespace {

using namespace bwdeploy;

constexpr const char* kOp = "silu_mul_quant_fp8";

SiluMulEntry entry_for(bool bf16, bool per_token) {
  if (bf16)
    return per_token ? bwdeploy_silu_mul_quant_fp8_bf16_per_token : bwdeploy_silu_mul_quant_fp8_bf16_static;
  return per_token ? bwdeploy_silu_mul_quant_fp8_fp16_per_token : bwdeploy_silu_mul_quant_fp8_fp16_static;
}

std::tuple<Tensor, Tensor> silu_mul_quant_fp8(Tensor gate, Tensor up, std::optional<Tensor> scale,
                                              std::optional<Tensor> rows_per_expert, bool eager_rounding,
                                              bool pdl) {
  const SiluMulInputs in = {gate, up, rows_per_expert, eager_rounding, pdl};
  const bool per_token = !scale.has_value();
  const SiluMulSizes sizes = require_silu_inputs(in, 8, per_token ? kMaxPerTokenWidth : kMaxSiluWidth);
  const float* given = per_token ? nullptr : require_scale(*scale, "scale", sizes.device, sizes.experts);
  const Tensor out = new_tensor(gate, {sizes.rows, sizes.width}, ScalarType::Float8_e4m3fn);
  const Tensor scale_out = new_tensor(gate, {per_token ? sizes.rows : 0}, ScalarType::Float);
  launch_silu(kOp, entry_for(sizes.bf16, per_token), in, sizes,
              {out.data_ptr(), scale_out.data_ptr(), given, static_cast<int>(sizes.width)});
  return {out, scale_out};
}

int64_t silu_mul_quant_fp8_calls(int64_t device) {
  return counted_calls(kOp, device,
                       {bwdeploy_silu_mul_quant_fp8_bf16_calls, bwdeploy_silu_mul_quant_fp8_fp16_calls});
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bwdeploy, library) {
  library.def(
      "silu_mul_quant_fp8(Tensor gate, Tensor up, Tensor? scale, *, Tensor? rows_per_expert=None, "
      "bool eager_rounding=False, bool pdl=True) -> (Tensor out, Tensor scale_out)");
  library.def("silu_mul_quant_fp8_calls(int device) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CUDA, library) {
  library.impl("silu_mul_quant_fp8", TORCH_BOX(&silu_mul_quant_fp8));
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CompositeExplicitAutograd, library) {
  library.impl("silu_mul_quant_fp8_calls", TORCH_BOX(&silu_mul_quant_fp8_calls));
}
