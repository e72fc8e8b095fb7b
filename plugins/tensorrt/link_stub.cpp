// Stands in for libnvinfer while this library is linked where only TensorRT's headers are. Never installed,
// never loaded: at run time the loader takes the real library of the same soname.
#include <NvInferRuntime.h>

extern "C" nvinfer1::IPluginRegistry* getPluginRegistry() noexcept { return nullptr; }
extern "C" nvinfer1::ILogger* getLogger() noexcept { return nullptr; }
