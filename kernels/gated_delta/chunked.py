"""The gated delta rule token by token, with gates that come with the tokens (Gated DeltaNet).

``reference.py`` writes a frame at once and takes its gates from the state, so frames must wait for
one another. Here each token has its own decay exp(g) and write strength beta, which lets a whole
clip be computed in parallel (arXiv 2412.06464). Per head, with S [Dk, Dv]:

    S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T        o_t = scale S_t^T q_t

With beta |k|^2 in [0, 2] and g <= 0 neither fading nor erasing enlarges anything.

A chunk of C tokens that starts from S_0, with G the running sum of g inside it and
D_ri = exp(G_r - G_i) for r >= i, else 0:

    A = strictly lower part of diag(beta) (K K^T * D)
    X = (I + A)^-1 diag(beta) (V - diag(exp G) K S_0)            what each token really writes
    O = scale (diag(exp G) Q S_0 + (Q K^T * D) X)
    S_C = exp(G_C) S_0 + (diag(exp(G_C - G)) K)^T X

Only X and S_C need the state before; all else is computed for every chunk at once.

``q``, ``k`` [B, T, H, Dk]; ``v`` [B, T, H, Dv]; ``g``, ``beta`` [B, T, H], g <= 0 and -inf to
forget everything; ``state`` [B, H, Dk, Dv], zero if None; ``scale`` is 1 / sqrt(Dk) if None.
Float64 values are computed in float64, all others in float32; ``o`` has the type of ``v``, the
state that of the computation. Gradients reach every tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(o [B, T, H, Dv], state after the last token): the definition. Shapes: the module's text.

    Raises ValueError for shapes that do not belong together.
    """
    held = _state(k, v, g, beta, state, q)
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    o = []
    with torch.autocast(v.device.type, enabled=False):
        wide_q, wide_k, wide_v, log, beta = (x.to(held.dtype) for x in (q, k, v, g, beta))
        decay = log.exp()
        for t in range(v.shape[1]):
            held = decay[:, t, :, None, None] * held
            known = (wide_k[:, t, :, None] @ held).squeeze(-2)
            change = beta[:, t, :, None] * (wide_v[:, t] - known)
            held = held + wide_k[:, t, ..., None] * change[..., None, :]
            o.append(scale * (wide_q[:, t, :, None] @ held).squeeze(-2))
    return (torch.stack(o, 1).to(v.dtype) if o else torch.zeros_like(v)), held


def chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    scale: float | None = None,
    chunk: int = 32,
) -> tuple[Tensor, Tensor]:
    """``recurrent``, ``chunk`` tokens at a time: the same but for rounding. 16 and 32 suit a CPU.

    Raises ValueError for shapes that do not belong together.
    """
    held = _state(k, v, g, beta, state, q)
    scale = k.shape[-1] ** -0.5 if scale is None else scale
    if not v.shape[1]:
        return torch.zeros_like(v), held
    with torch.autocast(v.device.type, enabled=False):
        query, key, value, log, strength = (
            _fold(x.to(held.dtype), chunk) for x in (q, k, v, g, beta)
        )
        between, since = _decays(log)
        before, written, last = _scan(key, value, strength, between, since, held.flatten(0, 1))
        query = scale * query
        o = (query * since) @ before + (query @ key.mT * between) @ written
    return _unfold(o, v), last.view(held.shape)


def advance(
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    state: Tensor | None = None,
    chunk: int = 32,
) -> Tensor:
    """The state of ``chunked`` alone, for writing without reading."""
    held = _state(k, v, g, beta, state)
    if not v.shape[1]:
        return held
    with torch.autocast(v.device.type, enabled=False):
        key, value, log, strength = (_fold(x.to(held.dtype), chunk) for x in (k, v, g, beta))
        between, since = _decays(log)
        _, _, last = _scan(key, value, strength, between, since, held.flatten(0, 1))
    return last.view(held.shape)


def _state(
    k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor | None, q: Tensor | None = None
) -> Tensor:
    """The first state in the type of the computation, every shape having been checked."""
    batch, tokens, heads, rows = k.shape
    shape = (batch, heads, rows, v.shape[-1])
    lead = (batch, tokens, heads)
    fits = v.shape[:-1] == lead and g.shape == lead and beta.shape == lead
    fits = fits and (q is None or q.shape == k.shape) and (state is None or state.shape == shape)
    if not fits:
        given = {"q": q, "k": k, "v": v, "g": g, "beta": beta, "state": state}
        shapes = ", ".join(f"{n} {list(x.shape)}" for n, x in given.items() if x is not None)
        raise ValueError(f"these shapes do not belong together: {shapes}")
    dtype = torch.float64 if v.dtype == torch.float64 else torch.float32
    return v.new_zeros(shape, dtype=dtype) if state is None else state.to(dtype)


def _fold(x: Tensor, chunk: int) -> Tensor:
    """[B, T, H, ...] to [chunks, B H, C, ...]. The last chunk is filled up with zeros, which are
    tokens that keep everything and write nothing."""
    batch, tokens = x.shape[:2]
    count = -(-tokens // chunk)
    x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, count * chunk - tokens))
    return x.view(batch, count, chunk, *x.shape[2:]).transpose(2, 3).transpose(0, 1).flatten(1, 2)


def _unfold(o: Tensor, like: Tensor) -> Tensor:
    """[chunks, B H, C, Dv] to the shape and type of ``like``."""
    batch, tokens, heads, columns = like.shape
    count, _, chunk, _ = o.shape
    o = o.view(count, batch, heads, chunk, columns).permute(1, 0, 3, 2, 4)
    return o.reshape(batch, count * chunk, heads, columns)[:, :tokens].to(like.dtype)


def _decays(g: Tensor) -> tuple[Tensor, Tensor]:
    """D [..., C, C] and exp(G) [..., C, 1] of g [..., C].

    G_r - G_i is summed up from i on rather than subtracted: behind one strong decay the difference
    of two large sums would round away the weak ones, and of two infinite ones be no number.
    """
    each = g[..., None].expand(*g.shape, g.shape[-1])
    return each.tril(-1).cumsum(-2).exp().tril(), g.cumsum(-1).exp()[..., None]


def _scan(
    k: Tensor, v: Tensor, beta: Tensor, between: Tensor, since: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """S_0 [chunks, B H, Dk, Dv] and X [chunks, B H, C, Dv] of each chunk, and the last state.

    The substitution is exact where an inverse by products of powers of A is not: keys of
    neighbouring frames are nearly parallel, and those powers then grow like binomials.
    """
    erased = beta[..., None] * (k @ k.mT) * between
    solve = torch.linalg.solve_triangular(
        erased.tril(-1), torch.diag_embed(beta), upper=False, unitriangular=True
    )
    seen, kept = k * since, since[..., -1:, :]
    ahead = (k * between[..., -1, :, None]).mT
    before, written = [], []
    for n in range(len(k)):
        new = solve[n] @ torch.baddbmm(v[n], seen[n], state, alpha=-1)
        before.append(state)
        written.append(new)
        state = torch.baddbmm(kept[n] * state, ahead[n], new)
    return torch.stack(before), torch.stack(written), state
