// The ops of this library, one table each.
#pragma once
#include "op_plugin.h"

namespace bwdeploy::tensorrt {

const Op& add_rmsnorm_quant_fp8();
const Op& add_rmsnorm_quant_nvfp4();
const Op& silu_mul_quant_fp8();
const Op& silu_mul_quant_nvfp4();

}  // namespace bwdeploy::tensorrt
