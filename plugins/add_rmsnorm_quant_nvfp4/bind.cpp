// torch.ops.bwdeploy.add_rmsnorm_quant_nvfp4 and its in-place form: checks, outputs, launch.
#include <optional>
#include <tuple>

#include "common/add_rmsnorm_binding.h"

extern "C" {
int bwdeploy_add_rmsnorm_quant_nvfp4_bf16_linear(const bwdeploy::AddRmsNormParams*,
                                                 const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_bf16_swizzled(const bwdeploy::AddRmsNormParams*,
                                                   const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_fp16_linear(const bwdeploy::AddRmsNormParams*,
                                                 const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_fp16_swizzled(const bwdeploy::AddRmsNormParams*,
                                                   const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_bf16_linear_calls(unsigned long long*);
int bwdeploy_add_rmsnorm_quant_nvfp4_bf16_swizzled_calls(unsigned long long*);
int bwdeploy_add_rmsnorm_quant_nvfp4_fp16_linear_calls(unsigned long long*);
int bwdeploy_add_rmsnorm_quant_nvfp4_fp16_swizzled_calls(unsigned long long*);
}

namespace {

using namespace bwdeploy;

constexpr const char* kOp = "add_rmsnorm_quant_nvfp4";

AddRmsNormEntry entry_for(bool bf16, bool swizzled) {
  if (bf16)
    return swizzled ? bwdeploy_add_rmsnorm_quant_nvfp4_bf16_swizzled
                    : bwdeploy_add_rmsnorm_quant_nvfp4_bf16_linear;
  return swizzled ? bwdeploy_add_rmsnorm_quant_nvfp4_fp16_swizzled
                  : bwdeploy_add_rmsnorm_quant_nvfp4_fp16_linear;
}

struct Outputs {
  Tensor out, scales, normed;
};

Outputs run(const NormInputs& in, const NormSizes& sizes, const Tensor& residual_out,
            const Tensor& global_scale, bool swizzled, bool return_normed) {
  const float* given = require_scale(global_scale, "global_scale", sizes.device);
  const Outputs outputs = {
      new_tensor(in.x, {sizes.rows, sizes.hidden / 2}, ScalarType::Byte),
      new_block_scales(in.x, sizes.rows, sizes.hidden, swizzled),
      new_tensor(in.x, {return_normed ? sizes.rows : 0, sizes.hidden}, in.x.scalar_type()),
  };
  const QuantizedRows out = {outputs.out.data_ptr(), outputs.scales.data_ptr(), given,
                             static_cast<int>(sizes.hidden)};
  launch_norm(kOp, entry_for(sizes.bf16, swizzled), sizes,
              norm_params(in, sizes, residual_out, outputs.normed, out));
  return outputs;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> add_rmsnorm_quant_nvfp4(Tensor x, Tensor residual, Tensor weight,
                                                                   Tensor global_scale, double eps,
                                                                   bool swizzled, bool eager_rounding,
                                                                   bool return_normed, bool pdl) {
  const NormInputs in = {x, residual, weight, eps, eager_rounding, pdl};
  const NormSizes sizes = require_norm_inputs(in, 16);
  const Tensor residual_out = new_tensor(x, {sizes.rows, sizes.hidden}, x.scalar_type());
  const Outputs outputs = run(in, sizes, residual_out, global_scale, swizzled, return_normed);
  return {outputs.out, outputs.scales, residual_out, outputs.normed};
}

std::tuple<Tensor, Tensor, Tensor> add_rmsnorm_quant_nvfp4_(Tensor x, Tensor residual, Tensor weight,
                                                            Tensor global_scale, double eps, bool swizzled,
                                                            bool eager_rounding, bool return_normed,
                                                            bool pdl) {
  const NormInputs in = {x, residual, weight, eps, eager_rounding, pdl};
  const NormSizes sizes = require_norm_inputs(in, 16);
  const Outputs outputs = run(in, sizes, residual, global_scale, swizzled, return_normed);
  return {outputs.out, outputs.scales, outputs.normed};
}

int64_t add_rmsnorm_quant_nvfp4_calls(int64_t device) {
  return counted_calls(kOp, device,
                       {bwdeploy_add_rmsnorm_quant_nvfp4_bf16_linear_calls,
                        bwdeploy_add_rmsnorm_quant_nvfp4_bf16_swizzled_calls,
                        bwdeploy_add_rmsnorm_quant_nvfp4_fp16_linear_calls,
                        bwdeploy_add_rmsnorm_quant_nvfp4_fp16_swizzled_calls});
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bwdeploy, library) {
  library.def(
      "add_rmsnorm_quant_nvfp4(Tensor x, Tensor residual, Tensor weight, Tensor global_scale, float eps, *, "
      "bool swizzled=True, bool eager_rounding=False, bool return_normed=False, bool pdl=True) -> "
      "(Tensor out, Tensor scales, Tensor residual_out, Tensor normed)");
  library.def(
      "add_rmsnorm_quant_nvfp4_(Tensor x, Tensor(a!) residual, Tensor weight, Tensor global_scale, float "
      "eps, *, "
      "bool swizzled=True, bool eager_rounding=False, bool return_normed=False, bool pdl=True) -> "
      "(Tensor out, Tensor scales, Tensor normed)");
  library.def("add_rmsnorm_quant_nvfp4_calls(int device) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CUDA, library) {
  library.impl("add_rmsnorm_quant_nvfp4", TORCH_BOX(&add_rmsnorm_quant_nvfp4));
  library.impl("add_rmsnorm_quant_nvfp4_", TORCH_BOX(&add_rmsnorm_quant_nvfp4_));
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CompositeExplicitAutograd, library) {
  library.impl("add_rmsnorm_quant_nvfp4_calls", TORCH_BOX(&add_rmsnorm_quant_nvfp4_calls));
}
