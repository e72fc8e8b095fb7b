// The plugins SiluMulQuantFp8 and SiluMulQuantNvfp4: gate_up [..., 2 * width] in, quantized silu(gate) * up
// out.
//
// One fused input, because TensorRT's tensors are contiguous: two halves would have to be copied apart first.
#include <stddef.h>

#include "common/silu_mul.h"
#include "ops.h"

extern "C" {
int bwdeploy_silu_mul_quant_fp8_bf16_static(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                            cudaStream_t);
int bwdeploy_silu_mul_quant_fp8_bf16_per_token(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                               cudaStream_t);
int bwdeploy_silu_mul_quant_fp8_fp16_static(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                            cudaStream_t);
int bwdeploy_silu_mul_quant_fp8_fp16_per_token(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                               cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_bf16_linear(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                              cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_bf16_swizzled(const bwdeploy::SiluMulParams*,
                                                const bwdeploy::SiluMulConfig*, cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_fp16_linear(const bwdeploy::SiluMulParams*, const bwdeploy::SiluMulConfig*,
                                              cudaStream_t);
int bwdeploy_silu_mul_quant_nvfp4_fp16_swizzled(const bwdeploy::SiluMulParams*,
                                                const bwdeploy::SiluMulConfig*, cudaStream_t);
}

namespace bwdeploy::tensorrt {
namespace {

using nvinfer1::PluginFieldType;

// gate_up and, unless each token gets its own, the scale.
std::vector<TensorRule> inputs(const Options& options) {
  std::vector<TensorRule> rules = {{Holds::kActivations, Shape::kGiven}};
  if (!options.per_token) rules.push_back({Holds::kFloat, Shape::kOne});
  return rules;
}

std::vector<TensorRule> fp8_outputs(const Options& options) {
  std::vector<TensorRule> rules = {{Holds::kFp8, Shape::kRows}};
  if (options.per_token) rules.push_back({Holds::kFloat, Shape::kTokens});
  return rules;
}

std::vector<TensorRule> nvfp4_outputs(const Options& options) {
  return {{Holds::kFp4, Shape::kRows},
          {Holds::kFp8, options.swizzled ? Shape::kSwizzledScales : Shape::kLinearScales}};
}

SiluMulParams params_of(const Call& call) {
  const auto* first = static_cast<const char*>(call.inputs[0]);
  const char* second = first + static_cast<int64_t>(call.width) * 2;  // both activation types take two bytes
  const int64_t stride = int64_t{2} * call.width;
  const bool gate_first = call.options.gate_first != 0;
  return {gate_first ? first : second,
          gate_first ? second : first,
          stride,
          stride,
          nullptr,
          call.rows,
          call.rows,
          {call.outputs[0], nullptr, nullptr, call.width},
          call.options.eager_rounding != 0,
          call.options.pdl != 0};
}

int launch_fp8(const Call& call) {
  SiluMulParams params = params_of(call);
  if (call.options.per_token) {
    params.out.scales = call.outputs[1];
    return (call.half ? bwdeploy_silu_mul_quant_fp8_fp16_per_token
                      : bwdeploy_silu_mul_quant_fp8_bf16_per_token)(&params, nullptr, call.stream);
  }
  params.out.given = static_cast<const float*>(call.inputs[1]);
  return (call.half ? bwdeploy_silu_mul_quant_fp8_fp16_static : bwdeploy_silu_mul_quant_fp8_bf16_static)(
      &params, nullptr, call.stream);
}

int launch_nvfp4(const Call& call) {
  SiluMulParams params = params_of(call);
  params.out.scales = call.outputs[1];
  params.out.given = static_cast<const float*>(call.inputs[1]);
  if (call.options.swizzled)
    return (call.half ? bwdeploy_silu_mul_quant_nvfp4_fp16_swizzled
                      : bwdeploy_silu_mul_quant_nvfp4_bf16_swizzled)(&params, nullptr, call.stream);
  return (call.half ? bwdeploy_silu_mul_quant_nvfp4_fp16_linear : bwdeploy_silu_mul_quant_nvfp4_bf16_linear)(
      &params, nullptr, call.stream);
}

}  // namespace

const Op& silu_mul_quant_fp8() {
  static const Op op = {"SiluMulQuantFp8",
                        2,
                        8,
                        kMaxSiluWidth,
                        {{"per_token", PluginFieldType::kINT32, offsetof(Options, per_token)},
                         {"gate_first", PluginFieldType::kINT32, offsetof(Options, gate_first)},
                         {"eager_rounding", PluginFieldType::kINT32, offsetof(Options, eager_rounding)},
                         {"pdl", PluginFieldType::kINT32, offsetof(Options, pdl)}},
                        inputs,
                        fp8_outputs,
                        launch_fp8};
  return op;
}

const Op& silu_mul_quant_nvfp4() {
  static const Op op = {"SiluMulQuantNvfp4",
                        2,
                        16,
                        kMaxSiluWidth,
                        {{"swizzled", PluginFieldType::kINT32, offsetof(Options, swizzled)},
                         {"gate_first", PluginFieldType::kINT32, offsetof(Options, gate_first)},
                         {"eager_rounding", PluginFieldType::kINT32, offsetof(Options, eager_rounding)},
                         {"pdl", PluginFieldType::kINT32, offsetof(Options, pdl)}},
                        inputs,
                        nvfp4_outputs,
                        launch_nvfp4};
  return op;
}

}  // namespace bwdeploy::tensorrt
