"""Slow and literal attention rollout and LeGrad, and a vision transformer in numpy that shows its attention."""

from __future__ import annotations

import math

import numpy as np


def rollout_eq1(attentions):
    """Abnar and Zuidema (2020): ``A = 0.5 W + 0.5 I``, ``R_l = A_l R_(l-1)``; attentions ``(heads, n, n)``."""
    tokens = attentions[0].shape[-1]
    flow = None
    for attention in attentions:
        mixed = np.zeros((tokens, tokens))
        for i in range(tokens):
            for j in range(tokens):
                mixed[i, j] = 0.5 * np.mean([head[i, j] for head in attention]) + 0.5 * (i == j)
        flow = mixed if flow is None else mixed @ flow
    return flow


def norm(x, weight, bias, eps=1e-6):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Transformer:
    """torchvision's ``VisionTransformer`` from its ``state_dict`` (numpy), after the patches are embedded."""

    def __init__(self, state, layers, heads):
        self.state, self.layers, self.heads = state, layers, heads

    def part(self, name):
        return self.state[name + ".weight"], self.state[name + ".bias"]

    def attention(self, layer, tokens):
        """Probabilities and values ``(heads, n, n)``, ``(heads, n, d)``."""
        root = f"encoder.layers.encoder_layer_{layer}"
        x = norm(tokens, *self.part(f"{root}.ln_1"))
        qkv = x @ self.state[f"{root}.self_attention.in_proj_weight"].T
        qkv = qkv + self.state[f"{root}.self_attention.in_proj_bias"]
        query, key, value = (
            part.reshape(len(x), self.heads, -1).transpose(1, 0, 2) for part in np.split(qkv, 3, axis=-1)
        )
        return softmax(query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])), value

    def block(self, layer, tokens, attention, value):
        """The layer's output, given its attention."""
        root = f"encoder.layers.encoder_layer_{layer}"
        weight, bias = self.part(f"{root}.self_attention.out_proj")
        mixed = (attention @ value).transpose(1, 0, 2).reshape(len(tokens), -1)
        x = tokens + mixed @ weight.T + bias
        y = norm(x, *self.part(f"{root}.ln_2"))
        weight, bias = self.part(f"{root}.mlp.0")
        y = gelu(y @ weight.T + bias)
        weight, bias = self.part(f"{root}.mlp.3")
        return x + y @ weight.T + bias

    def scores(self, vector):
        """Norm and classifier on one token."""
        weight, bias = self.part("heads.head")
        return weight @ norm(vector, *self.part("encoder.ln")) + bias

    def run(self, tokens):
        """Attention of all layers, and the scores of the class token."""
        found = []
        for layer in range(self.layers):
            attention, value = self.attention(layer, tokens)
            found.append(attention)
            tokens = self.block(layer, tokens, attention, value)
        return found, self.scores(tokens[0])


def legrad_map(net, tokens, which, step=1e-5):
    """Bousselham et al. (2024): mean over layers, heads and queries of ``ReLU(d s_l / d A_l)``; ``(n,)``.

    ``s_l`` is the score of the mean of layer l's output tokens; the gradient is taken entry by entry.
    """
    total = np.zeros(len(tokens))
    for layer in range(net.layers):
        attention, value = net.attention(layer, tokens)
        for head, query, key in np.ndindex(attention.shape):
            up, down = attention.copy(), attention.copy()
            up[head, query, key] += step
            down[head, query, key] -= step
            high, low = (net.scores(net.block(layer, tokens, a, value).mean(0))[which] for a in (up, down))
            total[key] += max((high - low) / (2 * step), 0.0) / (net.layers * net.heads * len(tokens))
        tokens = net.block(layer, tokens, attention, value)
    return total
