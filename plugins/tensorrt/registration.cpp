// Registers every plugin with TensorRT as soon as the library is loaded, by dlopen or by LD_PRELOAD.
//
// There is no getCreators(): IPluginRegistry::loadLibrary() refuses a library whose plugins are registered
// already.
#include <deque>

#include "ops.h"

namespace bwdeploy::tensorrt {
namespace {

// Creators stay where they are: TensorRT keeps references to them for the life of the process.
bool register_all() {
  static std::deque<OpCreator> creators;
  bool all = true;
  for (const Op* op : {&add_rmsnorm_quant_fp8(), &add_rmsnorm_quant_nvfp4(), &silu_mul_quant_fp8(),
                       &silu_mul_quant_nvfp4()}) {
    nvinfer1::IPluginRegistry* registry = getPluginRegistry();
    if (registry == nullptr || !registry->registerCreator(creators.emplace_back(*op), kNamespace)) {
      report(std::string(op->name) +
             ": not registered: no registry, or another plugin has this name and version");
      all = false;
    }
  }
  return all;
}

const bool registered = register_all();

}  // namespace
}  // namespace bwdeploy::tensorrt

// For hosts that want to know: 1 if every plugin is registered.
extern "C" __attribute__((visibility("default"))) int bwdeploy_tensorrt_plugins_registered() {
  return bwdeploy::tensorrt::registered ? 1 : 0;
}
