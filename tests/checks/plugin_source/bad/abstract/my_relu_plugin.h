// my_relu_plugin.h: ReLU, Swish and Mish as one TensorRT plugin, with or without a cache of its own.
//
// The interface is IPluginV3 (TensorRT 10 and later). The plan names IPluginV2 and IPluginV2DynamicExt; V2 plugins are
// deprecated since 10.0, and IPluginV2 itself (fixed shapes, implicit batch) is of no use any more. What has moved:
//
//   IPluginV2DynamicExt                      IPluginV3
//   one class with every method              three capabilities: IPluginV3OneCore, ...OneBuild, ...OneRuntime
//   getOutputDimensions (one output)         getOutputShapes (all outputs, returns an error code)
//   getOutputDataType                        getOutputDataTypes
//   configurePlugin, for build and run       configurePlugin when building, onShapeChange when running
//   serialize into a buffer of own layout    getFieldsToSerialize: named, typed fields; TensorRT writes them
//   IPluginCreator::deserializePlugin        IPluginCreatorV3One::createPlugin(..., TensorRTPhase::kRUNTIME)
//   initialize/terminate, detachFromContext  constructor and destructor; attachToContext gives each context a clone
#pragma once

#include <NvInfer.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace infra90 {

enum class Kind : int32_t { kRelu = 0, kSwish = 1, kMish = 2 };

// In my_relu_plugin.cu. n is a number of elements; 0 launches nothing.
cudaError_t launch_activation(int32_t kind, const float* in, float* out, size_t n, cudaStream_t stream);
cudaError_t launch_fill_table(int32_t kind, float* table, cudaStream_t stream);
cudaError_t launch_from_table(int32_t kind, const float* table, const float* in, float* out, size_t n, cudaStream_t stream);
size_t activation_table_bytes();

class MyReluPlugin : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
   public:
    MyReluPlugin(Kind kind, bool cached);
    ~MyReluPlugin() override;
    MyReluPlugin(const MyReluPlugin&) = delete;
    MyReluPlugin& operator=(const MyReluPlugin&) = delete;

    // IPluginV3
    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    // IPluginV3OneCore
    nvinfer1::AsciiChar const* getPluginName() const noexcept override;
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override;
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override;

    // IPluginV3OneBuild
    int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* in, int32_t inputs,
                            nvinfer1::DynamicPluginTensorDesc const* out, int32_t outputs) noexcept override;
    int32_t getOutputDataTypes(nvinfer1::DataType* outputTypes, int32_t outputs, nvinfer1::DataType const* inputTypes,
                               int32_t inputs) const noexcept override;
    int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t inputCount,
                            nvinfer1::DimsExprs const* shapeInputs, int32_t shapeInputCount,
                            nvinfer1::DimsExprs* outputs, int32_t outputCount,
                            nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors, int32_t inputs,
                                   int32_t outputs) noexcept override;

    // IPluginV3OneRuntime
    int32_t onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t inputs, nvinfer1::PluginTensorDesc const* out,
                          int32_t outputs) noexcept override;
    int32_t enqueue(nvinfer1::PluginTensorDesc const* inputDesc, nvinfer1::PluginTensorDesc const* outputDesc,
                    void const* const* inputs, void* const* outputs, void* workspace,
                    cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

   private:
    int32_t kind_;
    int32_t cached_;
    float* table_ = nullptr;  // on the GPU; each execution context has its own clone and table: nothing to lock
    bool filled_ = false;     // by the first frame
    std::vector<nvinfer1::PluginField> fields_;
    nvinfer1::PluginFieldCollection collection_{};
};

class MyReluPluginCreator : public nvinfer1::IPluginCreatorV3One {
   public:
    MyReluPluginCreator();
    nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const* name, nvinfer1::PluginFieldCollection const* given,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
    nvinfer1::AsciiChar const* getPluginName() const noexcept override;
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override;
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override;

   private:
    std::vector<nvinfer1::PluginField> fields_;
    nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace infra90
