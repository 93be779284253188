"""Samplers that draw people: a user with some of his examples is one unit, and the claim is about users.

Whoever owns several records is not hidden by a guarantee for one of them. Here a user is drawn as a whole, up to so
many of his examples stand in one unit, and the unit is clipped once: without the user it is gone, so the sum moves by
the bound, as it does for a single example elsewhere.

References:
    Charles et al. 2024, "Fine-tuning large language models with user-level differential privacy" (user-level
    sampling). McMahan et al. 2018, "Learning differentially private recurrent language models".
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional, Union

import numpy as np

from mindarmour.privacy.diff_privacy.parallel.ranks import current_ranks
from mindarmour.privacy.diff_privacy.sampling.batches import HOLE, PaddedBatches, SamplerDataset
from mindarmour.privacy.diff_privacy.sampling.draws import subset_draw
from mindarmour.privacy.diff_privacy.sampling.records import ArrayRecords, columns_like
from mindarmour.privacy.diff_privacy.sampling.samplers import (
    BallsInBinsSampler,
    Draws,
    PoissonSampler,
    records_with_mask,
)
from mindarmour.utils import LogUtil, _validate
from mindarmour.utils.secure_random import SecureStream, derive_key

LOGGER = LogUtil.get_instance()
TAG = "Sampler"
# Equal rows of two users are looked for in data up to this size.
_LOOKED_THROUGH = 2 ** 28


class _UserSampler:
    """What the samplers of users share: a sampler draws users by number, and each brings his rows.

    Args:
        users (PoissonSampler or BallsInBinsSampler): Draws users as it would draw records; its claim is the claim.
        examples_per_user (int): Rows of a unit.
    """

    def __init__(self, users: Union[PoissonSampler, BallsInBinsSampler], examples_per_user: int) -> None:
        self._users = users
        self.examples_per_user = _validate.integer("examples_per_user", examples_per_user, low=1)

    @property
    def users_per_batch(self) -> int:
        """Expected number of users in a batch."""
        return self._users.batch_size

    def dataset(self, data: Any, user_ids: Any, column_names: Optional[Sequence[str]] = None,
                pad_to: Optional[Mapping[str, Any]] = None) -> SamplerDataset:
        """A dataset of padded batches in which each user has `examples_per_user` rows, next to each other.

        A user who owns more examples brings so many of them, chosen uniformly and anew each time he is drawn; who owns
        fewer leaves holes, never another's rows. Under data parallelism hand all data to every rank, in the same order.

        Args:
            data (Any): As for `PoissonSampler.dataset`.
            user_ids (array_like): The one owner of each record, in the order of the data: whole numbers or strings,
                [N].
            column_names (Sequence[str], optional): See `records_of`.
            pad_to (Mapping[str, int or tuple], optional): See `records_of`.

        Returns:
            SamplerDataset. Leave `micro_batches` of the model None: a user is the unit.

        Raises:
            TypeError: User ids that are neither whole numbers nor strings.
            ValueError: A record with no owner or with two, more users in a batch than there are, data that cannot be
                sampled from.
        """
        records = records_with_mask(data, column_names, pad_to)
        owned = rows_by_user(user_ids, len(records))
        _validate.integer("users_per_batch", self.users_per_batch, low=1, high=len(owned))
        _warn_of_shared_rows(records, owned)
        sampling, steps, draws = self._users.draws_of(len(owned))
        return SamplerDataset(PaddedBatches(records, self._with_rows(draws, owned), steps,
                                            replace(sampling, examples_per_user=self.examples_per_user)))

    def _with_rows(self, draws: Draws, owned: list[np.ndarray]) -> Draws:
        """Draws of records from draws of users."""
        seed, rank = self._users.seed, current_ranks().rank

        def rows(start: int) -> Iterator[np.ndarray]:
            stream = SecureStream(None if seed == 0 else derive_key("examples of users", seed, start, rank))
            for users in draws(start):
                yield _rows_of(users, owned, self.examples_per_user, stream)

        return rows


class UserPoissonSampler(_UserSampler):
    """Each user joins each batch independently with probability users_per_batch / number of users.

    Args:
        users_per_batch (int): Expected users in a batch, over all ranks; the fixed public divisor of the sum.
        examples_per_user (int): Rows that a user brings at most, G. Together they are one clipping unit.
        steps_per_epoch (int, optional): Default: number of users / users_per_batch, rounded.
        max_users_per_batch (int, optional): Users that a physical batch holds; it has G times the rows. Default: large
            enough that a step draws more with probability at most 1e-16. A larger draw is cut down to it at random; the
            accountant adds what that costs.
        seed (int): 0 draws from operating-system entropy, as the privacy claim needs; another seed is reproducible.

    Guarantee:
        Poisson sampling under add-or-remove of a *user* with everything he owns, however much that is. Removing a user
        moves the clipped sum by at most the bound. The number of users is public.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import UserPoissonSampler
        >>> images, labels = np.random.rand(600, 8).astype(np.float32), np.zeros(600, np.int32)
        >>> owners = np.arange(600) % 200
        >>> dataset = UserPoissonSampler(users_per_batch=20, examples_per_user=2).dataset((images, labels), owners)
        >>> dataset.get_dataset_size(), dataset.claim.num_examples, dataset.claim.examples_per_user
        (10, 200, 2)
    """

    def __init__(self, users_per_batch: int, examples_per_user: int, steps_per_epoch: Optional[int] = None,
                 max_users_per_batch: Optional[int] = None, seed: int = 0) -> None:
        _validate.integer("users_per_batch", users_per_batch, low=1)
        if max_users_per_batch is not None:
            _validate.integer("max_users_per_batch", max_users_per_batch, low=users_per_batch)
        super().__init__(PoissonSampler(users_per_batch, steps_per_epoch, max_users_per_batch, seed),
                         examples_per_user)


class UserBallsInBinsSampler(_UserSampler):
    """Each user draws the one step of the epoch that he joins, anew in every epoch.

    Args:
        users_per_batch (int): Expected users in a batch, over all ranks; the fixed public divisor of the sum. An epoch
            takes number of users / users_per_batch steps, rounded.
        examples_per_user (int): Rows that a user brings at most, one clipping unit.
        seed (int): 0 draws from operating-system entropy, as the privacy claim needs; another seed is reproducible.

    Guarantee:
        Random allocation under add-or-remove of a *user*; otherwise that of `BallsInBinsSampler`.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import UserBallsInBinsSampler
        >>> images, labels = np.random.rand(600, 8).astype(np.float32), np.zeros(600, np.int32)
        >>> sampler = UserBallsInBinsSampler(users_per_batch=20, examples_per_user=2)
        >>> sampler.dataset((images, labels), user_ids=np.arange(600) % 200).get_dataset_size()
        10
    """

    def __init__(self, users_per_batch: int, examples_per_user: int, seed: int = 0) -> None:
        _validate.integer("users_per_batch", users_per_batch, low=1)
        super().__init__(BallsInBinsSampler(users_per_batch, seed), examples_per_user)


def rows_by_user(user_ids: Any, count: int) -> list[np.ndarray]:
    """The record numbers of each user, users in the order of their ids.

    Raises:
        TypeError: Ids that are neither whole numbers nor strings.
        ValueError: Not one id for each of the `count` records.
    """
    ids = _as_ids(user_ids)
    if len(ids) != count:
        raise ValueError(f"user_ids must name the owner of each of the {count} records, but has {len(ids)} entries.")
    _, owner = np.unique(ids, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(owner[order])) + 1)


def _as_ids(user_ids: Any) -> np.ndarray:
    """One-dimensional array of whole numbers or strings."""
    if isinstance(user_ids, (list, tuple)) or getattr(getattr(user_ids, "dtype", None), "kind", "") == "O":
        user_ids = list(user_ids)
    for number, value in enumerate(user_ids if isinstance(user_ids, list) else ()):
        if isinstance(value, (list, tuple, set, frozenset)) or getattr(value, "ndim", 0):
            raise ValueError(f"user_ids must name one owner of each record, but record {number} has {len(value)}. A "
                             f"record of two people has no guarantee by either: leave it out, or give both one id.")
        if not isinstance(value, (int, np.integer, str, bytes)) or isinstance(value, bool):
            raise TypeError(f"user_ids must be whole numbers or strings, but record {number} has {value!r} "
                            f"({type(value).__name__}).")
    ids = np.asarray(user_ids)
    if ids.ndim != 1:
        raise ValueError(f"user_ids must have one dimension, one owner of each record, but has shape {ids.shape}. A "
                         f"record of two people has no guarantee by either: leave it out, or give both one id.")
    if ids.dtype.kind not in "iuUSO":
        raise TypeError(f"user_ids must be whole numbers or strings, but are {ids.dtype}. A missing owner is none: "
                        f"leave such records out, or give each an id of its own.")
    return ids


def _rows_of(users: np.ndarray, owned: list[np.ndarray], most: int, stream: SecureStream) -> np.ndarray:
    """Record numbers of the users at their places, `most` places each, holes where a user has no more."""
    rows = np.full((len(users), most), HOLE)
    for place in np.flatnonzero(users != HOLE):
        own = owned[users[place]]
        if len(own) > most:
            own = own[subset_draw(len(own), most, stream)]
        rows[place, :len(own)] = own
    return rows.ravel()


def _warn_of_shared_rows(records: Any, owned: list[np.ndarray]) -> None:
    """Say where equal rows stand under several users: what protects one of them leaves the other's copy."""
    if not isinstance(records, ArrayRecords):
        return
    columns = next(records.gather([np.concatenate(owned)], columns_like(records)))
    if sum(column.nbytes for column in columns) > _LOOKED_THROUGH:
        return
    owner = np.repeat(np.arange(len(owned)), [len(rows) for rows in owned])
    seen: dict[bytes, int] = {}
    shared = sum(seen.setdefault(row, user) != user for row, user in zip(_bytes_of_rows(columns), owner.tolist()))
    if shared:
        LOGGER.warn(TAG, "%d rows equal a row of another user. The guarantee is for one user: the other's copy stays. "
                         "Leave copies out, or give their owners one id.", shared)


def _bytes_of_rows(columns: list[np.ndarray]) -> Iterator[bytes]:
    flat = [np.ascontiguousarray(column).reshape(len(column), -1) for column in columns]
    return (b"".join(column[i].tobytes() for column in flat) for i in range(len(flat[0])))
