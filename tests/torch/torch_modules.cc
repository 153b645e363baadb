// SPDX-License-Identifier: Apache-2.0
#include <torch/nn.h>

#include "torch_ops.h"

// LibTorch's own modules, by their names.
namespace torch_side {
namespace {

namespace nn = torch::nn;
using at::Tensor;

Tensor argument(const Tensors& in, size_t i) { return i < in.size() ? in[i] : Tensor(); }

// A module of one argument.
template <class M>
Built one(M m) {
  return {m.ptr(), [m](const Tensors& in) mutable { return Outputs(m->forward(in[0])); }};
}

template <int64_t D>
torch::ExpandingArray<D> window(const std::vector<int64_t>& v) {
  return torch::ExpandingArray<D>(at::IntArrayRef(v));
}

template <class M, int64_t D>
Built conv(const Call& c) {
  auto o = nn::ConvOptions<D>(c.integer("in"), c.integer("out"), window<D>(c.kernel))
               .stride(window<D>(c.stride))
               .dilation(window<D>(c.dilation))
               .groups(c.groups)
               .bias(c.flag("bias"));
  if (c.mode == "same") {
    o.padding(torch::kSame);
  } else {
    o.padding(window<D>(c.padding));
  }
  if (c.padding_mode == "reflect") o.padding_mode(torch::kReflect);
  if (c.padding_mode == "replicate") o.padding_mode(torch::kReplicate);
  if (c.padding_mode == "circular") o.padding_mode(torch::kCircular);
  return one(M(o));
}

template <class M, int64_t D>
Built conv_transpose(const Call& c) {
  M m(nn::ConvTransposeOptions<D>(c.integer("in"), c.integer("out"), window<D>(c.kernel))
          .stride(window<D>(c.stride))
          .padding(window<D>(c.padding))
          .output_padding(window<D>(c.output_padding))
          .dilation(window<D>(c.dilation))
          .groups(c.groups)
          .bias(c.flag("bias")));
  return {m.ptr(), [m](const Tensors& in) mutable { return Outputs(m->forward(in[0])); }};
}

// Several batches in training, then one in evaluation.
template <class M, class Options>
Built statistics(const Call& c, Options o) {
  M m(o.eps(c.at("eps")).affine(c.flag("affine")).track_running_stats(c.flag("track")));
  return {m.ptr(), [m](const Tensors& in) mutable {
            Tensors y;
            for (size_t i = 0; i < in.size(); ++i) {
              m->train(i + 1 < in.size());
              y.push_back(m->forward(in[i]));
            }
            return Outputs(y);
          }};
}
template <class M>
Built batch_norm(const Call& c) {
  nn::BatchNormOptions o(c.integer("channels"));
  o.momentum(c.at("momentum") < 0 ? c10::optional<double>() : c.at("momentum"));
  return statistics<M>(c, o);
}
template <class M>
Built instance_norm(const Call& c) {
  return statistics<M>(c,
                       nn::InstanceNormOptions(c.integer("channels")).momentum(c.at("momentum")));
}

template <class M, class Options>
Built recurrent(const Call& c, Options o) {
  M m(o.num_layers(c.integer("layers"))
          .bias(c.flag("bias"))
          .batch_first(c.flag("batch_first"))
          .bidirectional(c.flag("bidirectional")));
  return {
      m.ptr(), [m](const Tensors& in) mutable {
        if constexpr (std::is_same_v<M, nn::LSTM>) {
          c10::optional<std::tuple<Tensor, Tensor>> state;
          if (in.size() > 2) state = std::make_tuple(in[1], in[2]);
          const auto y = m->forward(in[0], state);
          return Outputs{std::get<0>(y), std::get<0>(std::get<1>(y)), std::get<1>(std::get<1>(y))};
        } else {
          const auto y = m->forward(in[0], argument(in, 1));
          return Outputs{std::get<0>(y), std::get<1>(y)};
        }
      }};
}
Built rnn(const Call& c) {
  nn::RNNOptions o(c.integer("in"), c.integer("hidden"));
  if (c.flag("relu")) o.nonlinearity(torch::kReLU);
  return recurrent<nn::RNN>(c, o);
}
Built lstm_cell(const Call& c) {
  nn::LSTMCell m(nn::LSTMCellOptions(c.integer("in"), c.integer("hidden")).bias(c.flag("bias")));
  return {m.ptr(), [m](const Tensors& in) mutable {
            const auto y = m->forward(in[0], std::make_tuple(in[1], in[2]));
            return Outputs{std::get<0>(y), std::get<1>(y)};
          }};
}
template <class M, class Options>
Built cell(const Call& c, Options o) {
  M m(o.bias(c.flag("bias")));
  return {m.ptr(), [m](const Tensors& in) mutable { return Outputs(m->forward(in[0], in[1])); }};
}

// query, key, value, or one for all three, then key_padding_mask, attn_mask.
Built multihead_attention(const Call& c) {
  nn::MultiheadAttention m(nn::MultiheadAttentionOptions(c.integer("width"), c.integer("heads"))
                               .bias(c.flag("bias"))
                               .kdim(c.integer("kdim"))
                               .vdim(c.integer("vdim")));
  const bool average = c.flag("average");
  const size_t last = c.flag("self") ? 0 : 2;
  return {m.ptr(), [m, average, last](const Tensors& in) mutable {
            const auto y = m->forward(in[0], in[last / 2], in[last], in[last + 1], true,
                                      in[last + 2], average);
            return Outputs{std::get<0>(y), std::get<1>(y)};
          }};
}

// The form that normalises first, which LibTorch's C++ lacks, from the parts of that which does
// afterwards.
template <class M>
Tensor feed_forward(M& m, const Tensor& x, bool gelu) {
  const Tensor hidden = m->linear1->forward(x);
  return m->linear2->forward(gelu ? at::gelu(hidden) : at::relu(hidden));
}
Tensor attend(nn::MultiheadAttention& m, const Tensor& x, const Tensor& to, const Tensor& padding,
              const Tensor& mask) {
  return std::get<0>(m->forward(x, to, to, padding, false, mask));
}

template <class Options>
Options transformer_layer(const Call& c) {
  Options o(c.integer("width"), c.integer("heads"));
  o.dim_feedforward(c.integer("feedforward")).dropout(0);
  if (c.flag("gelu")) o.activation(torch::kGELU);
  return o;
}

// src, src_mask, src_key_padding_mask.
Built encoder_layer(const Call& c) {
  nn::TransformerEncoderLayer m(transformer_layer<nn::TransformerEncoderLayerOptions>(c));
  const bool gelu = c.flag("gelu");
  if (!c.flag("norm_first")) {
    return {m.ptr(),
            [m](const Tensors& in) mutable { return Outputs(m->forward(in[0], in[1], in[2])); }};
  }
  return {m.ptr(), [m, gelu](const Tensors& in) mutable {
            Tensor x = in[0];
            const Tensor normed = m->norm1->forward(x);
            x = x + attend(m->self_attn, normed, normed, in[2], in[1]);
            return Outputs(x + feed_forward(m, m->norm2->forward(x), gelu));
          }};
}

// tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask.
Built decoder_layer(const Call& c) {
  nn::TransformerDecoderLayer m(transformer_layer<nn::TransformerDecoderLayerOptions>(c));
  const bool gelu = c.flag("gelu");
  if (!c.flag("norm_first")) {
    return {m.ptr(), [m](const Tensors& in) mutable {
              return Outputs(m->forward(in[0], in[1], in[2], in[3], in[4], in[5]));
            }};
  }
  return {m.ptr(), [m, gelu](const Tensors& in) mutable {
            Tensor x = in[0];
            const Tensor normed = m->norm1->forward(x);
            x = x + attend(m->self_attn, normed, normed, in[4], in[2]);
            x = x + attend(m->multihead_attn, m->norm2->forward(x), in[1], in[5], in[3]);
            return Outputs(x + feed_forward(m, m->norm3->forward(x), gelu));
          }};
}

template <class Stack, class Options, class Layer, class LayerOptions>
Stack stack(const Call& c) {
  Options o(Layer(transformer_layer<LayerOptions>(c)), c.integer("layers"));
  if (c.flag("norm")) {
    o.norm(nn::AnyModule(nn::LayerNorm(nn::LayerNormOptions({c.integer("width")}))));
  }
  return Stack(o);
}
Built encoder(const Call& c) {
  auto m = stack<nn::TransformerEncoder, nn::TransformerEncoderOptions, nn::TransformerEncoderLayer,
                 nn::TransformerEncoderLayerOptions>(c);
  return {m.ptr(),
          [m](const Tensors& in) mutable { return Outputs(m->forward(in[0], in[1], in[2])); }};
}
Built decoder(const Call& c) {
  auto m = stack<nn::TransformerDecoder, nn::TransformerDecoderOptions, nn::TransformerDecoderLayer,
                 nn::TransformerDecoderLayerOptions>(c);
  return {m.ptr(), [m](const Tensors& in) mutable {
            return Outputs(m->forward(in[0], in[1], in[2], in[3], in[4], in[5]));
          }};
}

}  // namespace

const Builders& module_builders() {
  static const Builders builders = {
      {"Linear",
       [](const Call& c) {
         return one(
             nn::Linear(nn::LinearOptions(c.integer("in"), c.integer("out")).bias(c.flag("bias"))));
       }},
      {"Bilinear",
       [](const Call& c) {
         nn::Bilinear m(nn::BilinearOptions(c.integer("in"), c.integer("in2"), c.integer("out"))
                            .bias(c.flag("bias")));
         return Built{m.ptr(),
                      [m](const Tensors& in) mutable { return Outputs(m->forward(in[0], in[1])); }};
       }},
      {"Conv1d", conv<nn::Conv1d, 1>},
      {"Conv2d", conv<nn::Conv2d, 2>},
      {"Conv3d", conv<nn::Conv3d, 3>},
      {"ConvTranspose1d", conv_transpose<nn::ConvTranspose1d, 1>},
      {"ConvTranspose2d", conv_transpose<nn::ConvTranspose2d, 2>},
      {"ConvTranspose3d", conv_transpose<nn::ConvTranspose3d, 3>},
      {"BatchNorm1d", batch_norm<nn::BatchNorm1d>},
      {"BatchNorm2d", batch_norm<nn::BatchNorm2d>},
      {"BatchNorm3d", batch_norm<nn::BatchNorm3d>},
      {"InstanceNorm1d", instance_norm<nn::InstanceNorm1d>},
      {"InstanceNorm2d", instance_norm<nn::InstanceNorm2d>},
      {"InstanceNorm3d", instance_norm<nn::InstanceNorm3d>},
      {"GroupNorm",
       [](const Call& c) {
         return one(nn::GroupNorm(nn::GroupNormOptions(c.groups, c.integer("channels"))
                                      .eps(c.at("eps"))
                                      .affine(c.flag("affine"))));
       }},
      {"LayerNorm",
       [](const Call& c) {
         return one(nn::LayerNorm(
             nn::LayerNormOptions(c.size).eps(c.at("eps")).elementwise_affine(c.flag("affine"))));
       }},
      {"LocalResponseNorm",
       [](const Call& c) {
         return one(nn::LocalResponseNorm(nn::LocalResponseNormOptions(c.integer("size"))
                                              .alpha(c.at("alpha"))
                                              .beta(c.at("beta"))
                                              .k(c.at("k"))));
       }},
      {"PReLU",
       [](const Call& c) {
         return one(nn::PReLU(nn::PReLUOptions().num_parameters(c.integer("channels"))));
       }},
      {"Embedding",
       [](const Call& c) {
         nn::EmbeddingOptions o(c.integer("count"), c.integer("width"));
         if (c.numbers.count("padding_idx") != 0) o.padding_idx(c.integer("padding_idx"));
         return one(nn::Embedding(o));
       }},
      {"RNN", rnn},
      {"GRU",
       [](const Call& c) {
         return recurrent<nn::GRU>(c, nn::GRUOptions(c.integer("in"), c.integer("hidden")));
       }},
      {"LSTM",
       [](const Call& c) {
         return recurrent<nn::LSTM>(c, nn::LSTMOptions(c.integer("in"), c.integer("hidden")));
       }},
      {"RNNCell",
       [](const Call& c) {
         nn::RNNCellOptions o(c.integer("in"), c.integer("hidden"));
         if (c.flag("relu")) o.nonlinearity(torch::kReLU);
         return cell<nn::RNNCell>(c, o);
       }},
      {"GRUCell",
       [](const Call& c) {
         return cell<nn::GRUCell>(c, nn::GRUCellOptions(c.integer("in"), c.integer("hidden")));
       }},
      {"LSTMCell", lstm_cell},
      {"MultiheadAttention", multihead_attention},
      {"TransformerEncoderLayer", encoder_layer},
      {"TransformerDecoderLayer", decoder_layer},
      {"TransformerEncoder", encoder},
      {"TransformerDecoder", decoder},
  };
  return builders;
}

std::map<std::string, Tensor> parameters_of(nn::Module& module) {
  std::map<std::string, Tensor> all;
  for (const auto& p : module.named_parameters()) all[p.key()] = p.value();
  return all;
}

std::map<std::string, Tensor> buffers_of(nn::Module& module) {
  std::map<std::string, Tensor> all;
  for (const auto& b : module.named_buffers()) {
    if (b.value().defined()) all[b.key()] = b.value();
  }
  return all;
}

}  // namespace torch_side
