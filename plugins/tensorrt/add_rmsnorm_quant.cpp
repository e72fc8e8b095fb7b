// The plugins AddRmsnormQuantFp8 and AddRmsnormQuantNvfp4: x and residual in, the quantized norm of their sum
// and the sum itself out. The new residual is an output of its own: TensorRT decides about memory.
#include <stddef.h>

#include "common/add_rmsnorm.h"
#include "ops.h"

extern "C" {
int bwdeploy_add_rmsnorm_quant_fp8_bf16_static(const bwdeploy::AddRmsNormParams*,
                                               const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_fp8_bf16_per_token(const bwdeploy::AddRmsNormParams*,
                                                  const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_fp8_fp16_static(const bwdeploy::AddRmsNormParams*,
                                               const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_fp8_fp16_per_token(const bwdeploy::AddRmsNormParams*,
                                                  const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_bf16_linear(const bwdeploy::AddRmsNormParams*,
                                                 const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_bf16_swizzled(const bwdeploy::AddRmsNormParams*,
                                                   const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_fp16_linear(const bwdeploy::AddRmsNormParams*,
                                                 const bwdeploy::AddRmsNormConfig*, cudaStream_t);
int bwdeploy_add_rmsnorm_quant_nvfp4_fp16_swizzled(const bwdeploy::AddRmsNormParams*,
                                                   const bwdeploy::AddRmsNormConfig*, cudaStream_t);
}

namespace bwdeploy::tensorrt {
namespace {

using nvinfer1::PluginFieldType;

// x, residual, weight and, unless each token gets its own, the scale.
std::vector<TensorRule> inputs(const Options& options) {
  std::vector<TensorRule> rules = {{Holds::kActivations, Shape::kGiven},
                                   {Holds::kActivations, Shape::kRows},
                                   {Holds::kActivations, Shape::kWidth}};
  if (!options.per_token) rules.push_back({Holds::kFloat, Shape::kOne});
  return rules;
}

// The codes, the new residual, the scales if any are computed, and last the normed activations if wanted.
std::vector<TensorRule> with_normed(std::vector<TensorRule> rules, const Options& options) {
  if (options.return_normed) rules.push_back({Holds::kActivations, Shape::kRows});
  return rules;
}

std::vector<TensorRule> fp8_outputs(const Options& options) {
  std::vector<TensorRule> rules = {{Holds::kFp8, Shape::kRows}, {Holds::kActivations, Shape::kRows}};
  if (options.per_token) rules.push_back({Holds::kFloat, Shape::kTokens});
  return with_normed(rules, options);
}

std::vector<TensorRule> nvfp4_outputs(const Options& options) {
  return with_normed({{Holds::kFp4, Shape::kRows},
                      {Holds::kActivations, Shape::kRows},
                      {Holds::kFp8, options.swizzled ? Shape::kSwizzledScales : Shape::kLinearScales}},
                     options);
}

// `scales` and `normed`: the outputs that hold them, -1 if none does.
AddRmsNormParams params_of(const Call& call, int scales, int normed) {
  AddRmsNormParams params = {};
  params.x = call.inputs[0];
  params.residual = call.inputs[1];
  params.weight = call.inputs[2];
  params.residual_out = call.outputs[1];
  params.normed = normed < 0 ? nullptr : call.outputs[normed];
  params.out = {call.outputs[0], scales < 0 ? nullptr : call.outputs[scales],
                call.options.per_token ? nullptr : static_cast<const float*>(call.inputs[3]), call.width};
  params.x_stride = params.residual_stride = params.residual_out_stride = call.width;
  params.rows = call.rows;
  params.eps = call.options.eps;
  params.eager_rounding = call.options.eager_rounding != 0;
  params.pdl = call.options.pdl != 0;
  return params;
}

int launch_fp8(const Call& call) {
  const bool per_token = call.options.per_token != 0;
  const int normed = call.options.return_normed ? (per_token ? 3 : 2) : -1;
  const AddRmsNormParams params = params_of(call, per_token ? 2 : -1, normed);
  if (per_token)
    return (call.half ? bwdeploy_add_rmsnorm_quant_fp8_fp16_per_token
                      : bwdeploy_add_rmsnorm_quant_fp8_bf16_per_token)(&params, nullptr, call.stream);
  return (call.half ? bwdeploy_add_rmsnorm_quant_fp8_fp16_static
                    : bwdeploy_add_rmsnorm_quant_fp8_bf16_static)(&params, nullptr, call.stream);
}

int launch_nvfp4(const Call& call) {
  const AddRmsNormParams params = params_of(call, 2, call.options.return_normed ? 3 : -1);
  if (call.options.swizzled)
    return (call.half ? bwdeploy_add_rmsnorm_quant_nvfp4_fp16_swizzled
                      : bwdeploy_add_rmsnorm_quant_nvfp4_bf16_swizzled)(&params, nullptr, call.stream);
  return (call.half ? bwdeploy_add_rmsnorm_quant_nvfp4_fp16_linear
                    : bwdeploy_add_rmsnorm_quant_nvfp4_bf16_linear)(&params, nullptr, call.stream);
}

}  // namespace

const Op& add_rmsnorm_quant_fp8() {
  static const Op op = {"AddRmsnormQuantFp8",
                        1,
                        8,
                        kMaxHidden,
                        {{"eps", PluginFieldType::kFLOAT32, offsetof(Options, eps)},
                         {"per_token", PluginFieldType::kINT32, offsetof(Options, per_token)},
                         {"return_normed", PluginFieldType::kINT32, offsetof(Options, return_normed)},
                         {"eager_rounding", PluginFieldType::kINT32, offsetof(Options, eager_rounding)},
                         {"pdl", PluginFieldType::kINT32, offsetof(Options, pdl)}},
                        inputs,
                        fp8_outputs,
                        launch_fp8};
  return op;
}

const Op& add_rmsnorm_quant_nvfp4() {
  static const Op op = {"AddRmsnormQuantNvfp4",
                        1,
                        16,
                        kMaxHidden,
                        {{"eps", PluginFieldType::kFLOAT32, offsetof(Options, eps)},
                         {"swizzled", PluginFieldType::kINT32, offsetof(Options, swizzled)},
                         {"return_normed", PluginFieldType::kINT32, offsetof(Options, return_normed)},
                         {"eager_rounding", PluginFieldType::kINT32, offsetof(Options, eager_rounding)},
                         {"pdl", PluginFieldType::kINT32, offsetof(Options, pdl)}},
                        inputs,
                        nvfp4_outputs,
                        launch_nvfp4};
  return op;
}

}  // namespace bwdeploy::tensorrt
