"""The last known state of the jobs and their children, fed by the watches; for reads only.

Nobody reports a deletion that happened while a watch was expired, so `sweep` takes the names that
a fresh list no longer has.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Generic, Protocol, TypeVar

from finetuning.controller import observed
from finetuning.controller.observed import BatchJob, Children, Custom, Key, Meta, Pod


class _HasMeta(Protocol):
    @property
    def meta(self) -> Meta: ...


T = TypeVar("T", bound=_HasMeta)


def around(folder: str) -> list[str]:
    """Those that claim/team/run lies in: claim/, which is the whole claim, and claim/team."""
    claim, _, path = folder.partition("/")
    parts = path.split("/")
    above = ["/".join([claim, *parts[:end]]) for end in range(1, len(parts))]
    return [f"{claim}/", *above] if path else []


class Places:
    """Names and folders that ever had a Job or a Pod, as far as this process knows.

    Kept by their hashes: two that share one are asked about once too often, and nothing else.
    """

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def add(self, key: Key, folder: str) -> None:
        """A job's name, and the folder that it writes (empty: none)."""
        self._hashes.add(hash(key))
        if folder:
            self._hashes.add(hash((key[0], folder)))
            self._hashes.update(hash((key[0], each, "inside")) for each in around(folder))

    def has(self, key: Key, folder: str) -> bool:
        """Whether the name, the folder, one inside or one around it ever had anything."""
        within = [(key[0], each) for each in (folder, *around(folder))]
        return any(hash(each) in self._hashes for each in (key, *within, (*within[0], "inside")))


class Store(Generic[T]):
    """Objects of one kind by uid, by the job that they belong to and by the folder they write."""

    def __init__(
        self,
        key_of: Callable[[Meta], Key],
        folder_of: Callable[[T], str] = lambda _: "",
        places: Places | None = None,
    ) -> None:
        """`places` is told where each object is."""
        self._key_of, self._folder_of, self._places = key_of, folder_of, places
        self._objects: dict[str, T] = {}
        self._stamps: dict[str, int] = {}
        self._by_key: defaultdict[Key, set[str]] = defaultdict(set)
        self._by_folder: defaultdict[Key, set[str]] = defaultdict(set)
        self._inside: defaultdict[Key, set[str]] = defaultdict(set)
        self._clock = itertools.count(1)
        self.changes = 0
        """Grows with whatever is put or dropped."""

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter(self._objects.values())

    def put(self, item: T, *, since: int | None = None) -> bool:
        """Keep `item` unless it is known as new or newer; says whether it was news.

        No news is what differs only in parts of the object that nobody here looks at. What a list
        says that began at stamp `since` is believed in any case, unless the other came after that:
        versions go back when a backup is restored.
        """
        uid = item.meta.uid
        known, stamp = self._objects.get(uid), self._stamps.get(uid, 0)
        self._stamps[uid] = next(self._clock)
        listed = since is not None and stamp < since
        if known is not None and not listed and known.meta.version >= item.meta.version:
            return False
        self._objects[uid] = item
        self.changes += 1
        place = self._place(item)
        if known is None or place != self._place(known):
            # Labels say whose a Pod is, and may be changed.
            if known is not None:
                self._unlist(known)
            self._enlist(uid, *place)
        return known != item

    def _place(self, item: T) -> tuple[Key, str]:
        return self._key_of(item.meta), self._folder_of(item)

    def _enlist(self, uid: str, key: Key, folder: str) -> None:
        self._by_key[key].add(uid)
        if folder:
            self._by_folder[key[0], folder].add(uid)
            for each in around(folder):
                self._inside[key[0], each].add(uid)
        if self._places is not None:
            self._places.add(key, folder)

    def drop(self, uid: str) -> Key | None:
        """Forget an object; says whose it was."""
        item = self._objects.pop(uid, None)
        if item is None:
            return None
        self._stamps.pop(uid, None)
        self.changes += 1
        return self._unlist(item)

    def _unlist(self, item: T) -> Key:
        key, folder = self._place(item)
        _discard(self._by_key, key, item.meta.uid)
        _discard(self._by_folder, (key[0], folder), item.meta.uid)
        for each in around(folder):
            _discard(self._inside, (key[0], each), item.meta.uid)
        return key

    def of(self, key: Key) -> list[T]:
        return [self._objects[uid] for uid in self._by_key.get(key, ())]

    def over_folder(self, namespace: str, folder: str) -> list[T]:
        """Those that write there, in a folder inside it or in one around it."""
        found = [
            self._inside.get((namespace, folder), ()),
            *(self._by_folder.get((namespace, each), ()) for each in (folder, *around(folder))),
        ]
        return [self._objects[uid] for uid in itertools.chain(*found)]

    def now(self) -> int:
        """A stamp: what is put later is newer than a list that starts now."""
        return next(self._clock)

    def sweep(self, listed: Collection[str], started: int, namespaces: Collection[str]) -> set[Key]:
        """Drop what a list begun at stamp `started` did not have; says whose it was."""
        gone = [
            uid
            for uid, item in self._objects.items()
            if uid not in listed
            and self._stamps[uid] < started
            and (not namespaces or item.meta.namespace in namespaces)
        ]
        return {key for uid in gone if (key := self.drop(uid)) is not None}


def _discard(index: dict[Key, set[str]], key: Key, uid: str) -> None:
    """Leave no empty set behind."""
    found = index.get(key, set())
    found.discard(uid)
    if not found:
        index.pop(key, None)


def _own_key(meta: Meta) -> Key:
    return (meta.namespace, meta.name)


def _parent_key(meta: Meta) -> Key:
    return meta.parent_key


class Cache:
    """The three kinds that are watched."""

    def __init__(self) -> None:
        self.customs: Store[Custom] = Store(_own_key)
        self.places = Places()
        self.jobs: Store[BatchJob] = Store(_parent_key, lambda job: job.folder, self.places)
        self.pods: Store[Pod] = Store(_parent_key, lambda pod: pod.folder, self.places)
        self._asked: tuple[Key, str, int, int] | None = None
        self._answer = Children()

    def custom(self, key: Key) -> Custom | None:
        """The newest object of this name: a deleted one may linger beside its successor."""
        return max(self.customs.of(key), key=lambda each: each.meta.version, default=None)

    def children(self, key: Key, uid: str) -> Children:
        """Asked for several times in one look: the same answer while nothing changed."""
        asked = (key, uid, self.jobs.changes, self.pods.changes)
        if asked != self._asked:
            self._answer = observed.children(uid, self.jobs.of(key), self.pods.of(key))
            self._asked = asked
        return self._answer
