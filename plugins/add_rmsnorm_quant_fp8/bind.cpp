// torch.ops.bwdeploy.add_rmsnorm_quant_fp8 and its in-place form: checks, outputs, launch.
#include <optional>
#include <tuple>

#include "common/add_rmsnorm_binding.h"

extern "C" {
int bwdeploy_add_rmsnorm_quant_fp8_bf16_static(const bwdeploy::AddRmsNormParams*,
                                               const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_fp8_bf16_per_token(const bwdeploy::AddRmsNormParams*,
                                                  const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_fp8_fp16_static(const bwdeploy::AddRmsNormParams*,
                                               const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_fp8_fp16_per_token(const bwdeploy::AddRmsNormParams*,
                                                  const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_fp8_bf16_static_calls(unsigned long long*);
int bwdeploy_add_rmsnorm_quant_fp8_bf16_per_token_calls(unsigned long long*);
int bwdeploy_add_rmsnorm_quant_fp8_fp16_static_calls(unsigned long long*);
int bwdeploy_add_rmsnorm_quant_fp8_fp16_per_token_calls(unsigned long long*);
}

namespace {

using namespace bwdeploy;

constexpr const char* kOp = "add_rmsnorm_quant_fp8";

AddRmsNormEntry entry_for(bool bf16, bool per_token) {
  if (bf16)
    return per_token ? bwdeploy_add_rmsnorm_quant_fp8_bf16_per_token
                     : bwdeploy_add_rmsnorm_quant_fp8_bf16_static;
  return per_token ? bwdeploy_add_rmsnorm_quant_fp8_fp16_per_token
                   : bwdeploy_add_rmsnorm_quant_fp8_fp16_static;
}

struct Outputs {
  Tensor out, scale_out, normed;
};

Outputs run(const NormInputs& in, const NormSizes& sizes, const Tensor& residual_out,
            const std::optional<Tensor>& scale, bool return_normed) {
  const bool per_token = !scale.has_value();
  const float* given = per_token ? nullptr : require_scale(*scale, "scale", sizes.device);
  const Outputs outputs = {
      new_tensor(in.x, {sizes.rows, sizes.hidden}, ScalarType::Float8_e4m3fn),
      new_tensor(in.x, {per_token ? sizes.rows : 0}, ScalarType::Float),
      new_tensor(in.x, {return_normed ? sizes.rows : 0, sizes.hidden}, in.x.scalar_type()),
  };
  const QuantizedRows out = {outputs.out.data_ptr(), outputs.scale_out.data_ptr(), given,
                             static_cast<int>(sizes.hidden)};
  launch_norm(kOp, entry_for(sizes.bf16, per_token), sizes,
              norm_params(in, sizes, residual_out, outputs.normed, out));
  return outputs;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> add_rmsnorm_quant_fp8(Tensor x, Tensor residual, Tensor weight,
                                                                 std::optional<Tensor> scale, double eps,
                                                                 bool eager_rounding, bool return_normed,
                                                                 bool pdl) {
  const NormInputs in = {x, residual, weight, eps, eager_rounding, pdl};
  const NormSizes sizes = require_norm_inputs(in, 8);
  const Tensor residual_out = new_tensor(x, {sizes.rows, sizes.hidden}, x.scalar_type());
  const Outputs outputs = run(in, sizes, residual_out, scale, return_normed);
  return {outputs.out, residual_out, outputs.scale_out, outputs.normed};
}

std::tuple<Tensor, Tensor, Tensor> add_rmsnorm_quant_fp8_(Tensor x, Tensor residual, Tensor weight,
                                                          std::optional<Tensor> scale, double eps,
                                                          bool eager_rounding, bool return_normed, bool pdl) {
  const NormInputs in = {x, residual, weight, eps, eager_rounding, pdl};
  const NormSizes sizes = require_norm_inputs(in, 8);
  const Outputs outputs = run(in, sizes, residual, scale, return_normed);
  return {outputs.out, outputs.scale_out, outputs.normed};
}

int64_t add_rmsnorm_quant_fp8_calls(int64_t device) {
  return counted_calls(
      kOp, device,
      {bwdeploy_add_rmsnorm_quant_fp8_bf16_static_calls, bwdeploy_add_rmsnorm_quant_fp8_bf16_per_token_calls,
       bwdeploy_add_rmsnorm_quant_fp8_fp16_static_calls,
       bwdeploy_add_rmsnorm_quant_fp8_fp16_per_token_calls});
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bwdeploy, library) {
  library.def(
      "add_rmsnorm_quant_fp8(Tensor x, Tensor residual, Tensor weight, Tensor? scale, float eps, *, "
      "bool eager_rounding=False, bool return_normed=False, bool pdl=True) -> "
      "(Tensor out, Tensor residual_out, Tensor scale_out, Tensor normed)");
  library.def(
      "add_rmsnorm_quant_fp8_(Tensor x, Tensor(a!) residual, Tensor weight, Tensor? scale, float eps, *, "
      "bool eager_rounding=False, bool return_normed=False, bool pdl=True) -> "
      "(Tensor out, Tensor scale_out, Tensor normed)");
  library.def("add_rmsnorm_quant_fp8_calls(int device) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CUDA, library) {
  library.impl("add_rmsnorm_quant_fp8", TORCH_BOX(&add_rmsnorm_quant_fp8));
  library.impl("add_rmsnorm_quant_fp8_", TORCH_BOX(&add_rmsnorm_quant_fp8_));
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CompositeExplicitAutograd, library) {
  library.impl("add_rmsnorm_quant_fp8_calls", TORCH_BOX(&add_rmsnorm_quant_fp8_calls));
}
