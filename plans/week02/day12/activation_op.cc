// The day's plugin as an OpenVINO custom operation: Swish and Mish in C++, loaded by Core::add_extension.
//
// What IPluginV3 calls getOutputShapes, enqueue, getFieldsToSerialize is here validate_and_infer_types, evaluate,
// visit_attributes. One node may be evaluated by several requests at once: what it keeps must be guarded.
#include <cmath>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "openvino/core/extension.hpp"
#include "openvino/core/op_extension.hpp"
#include "openvino/op/op.hpp"

namespace infra90 {

// Softplus without overflow: log(1 + e^x) = max(x, 0) + log1p(e^-|x|).
inline float softplus(float x) { return std::fmax(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); }
inline float swish(float x) { return x / (1.0f + std::exp(-x)); }
inline float mish(float x) { return x * std::tanh(softplus(x)); }

// The internal cache: a table of the activation over [-LIMIT, LIMIT], interpolated. The first frame fills it.
class Table {
   public:
    static constexpr float kLimit = 16.0f;
    static constexpr int kCells = 1 << 16;

    explicit Table(float (*function)(float)) : function_(function), values_(new float[kCells + 2]) {
        for (int i = 0; i < kCells + 2; ++i) values_[i] = function(-kLimit + static_cast<float>(i) * kStep);
    }
    float operator()(float x) const {
        if (!(std::fabs(x) < kLimit)) return function_(x);  // beyond the table, and NaN
        const float at = (x + kLimit) / kStep;
        const int cell = static_cast<int>(at);
        const float part = at - static_cast<float>(cell);
        return values_[cell] + part * (values_[cell + 1] - values_[cell]);
    }

   private:
    static constexpr float kStep = 2.0f * kLimit / kCells;
    float (*function_)(float);
    std::unique_ptr<float[]> values_;
};

class Activation : public ov::op::Op {
   public:
    OPENVINO_OP("Infra90Activation", "infra90");

    Activation() = default;
    explicit Activation(const ov::OutputVector& arguments) : Op(arguments) { constructor_validate_and_infer_types(); }

    void validate_and_infer_types() override {
        NODE_VALIDATION_CHECK(this, kind_ == "swish" || kind_ == "mish", "kind is '", kind_, "', not swish or mish");
        NODE_VALIDATION_CHECK(this, get_input_element_type(0) == ov::element::f32, "takes f32, not ",
                              get_input_element_type(0));
        set_output_type(0, get_input_element_type(0), get_input_partial_shape(0));
    }

    std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& arguments) const override {
        OPENVINO_ASSERT(arguments.size() == 1, "Infra90Activation takes one input, not ", arguments.size());
        auto copy = std::make_shared<Activation>();
        copy->set_arguments(arguments);
        copy->kind_ = kind_;
        copy->cached_ = cached_;
        copy->constructor_validate_and_infer_types();
        return copy;
    }

    bool visit_attributes(ov::AttributeVisitor& visitor) override {
        visitor.on_attribute("kind", kind_);
        visitor.on_attribute("cached", cached_);
        return true;
    }

    bool has_evaluate() const override { return get_input_element_type(0) == ov::element::f32; }

    bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
        outputs[0].set_shape(inputs[0].get_shape());
        const float* in = inputs[0].data<const float>();
        float* out = outputs[0].data<float>();
        const std::size_t size = inputs[0].get_size();
        float (*const function)(float) = kind_ == "swish" ? swish : mish;
        if (!cached_) {
            for (std::size_t i = 0; i < size; ++i) out[i] = function(in[i]);
            return true;
        }
        const Table& table = filled(function);
        for (std::size_t i = 0; i < size; ++i) out[i] = table(in[i]);
        return true;
    }

   private:
    const Table& filled(float (*function)(float)) const {
        std::call_once(once_, [&] { table_ = std::make_unique<Table>(function); });
        return *table_;
    }

    std::string kind_ = "swish";
    bool cached_ = false;
    mutable std::once_flag once_;
    mutable std::unique_ptr<Table> table_;
};

}  // namespace infra90

OPENVINO_CREATE_EXTENSIONS(std::vector<ov::Extension::Ptr>({
    std::make_shared<ov::OpExtension<infra90::Activation>>(),
}));
