//! Whose unfinished handshake is dropped when there are too many: no clock, no sockets.

use super::source::{Block, Source};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// How many handshakes there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) total: usize,
    /// Of one block of sources.
    pub(super) block: usize,
    /// Of one source.
    pub(super) source: usize,
}

impl Limits {
    /// One source may have half of `total`, and a block of them three quarters.
    pub(super) fn of(total: usize) -> Self {
        let total = total.max(1);
        Self { total, block: (total * 3).div_ceil(4), source: total.div_ceil(2) }
    }
}

/// Who has fewer isn't told from others by how many they are: of many attackers with one handshake each, a
/// site with two is not the most numerous.
const FEW: usize = 8;

/// Unfinished handshakes, each with a `T`.
///
/// Where there are too many of a source, of a block or in all, one of these is dropped before another is
/// admitted: one that hasn't sent a byte, of the block that has most of such, there of the source that has
/// most, and there the oldest. Those that have sent some are spared as long as they are no more than three
/// quarters: beyond that one of them is dropped in the same way, or whoever sends a byte could keep newcomers
/// from sending their first.
#[derive(Debug)]
pub(super) struct Handshakes<T> {
    limits: Limits,
    next: u64,
    unfinished: HashMap<u64, Handshake<T>>,
    count: Count,
    blocks: HashMap<Block, Group>,
}

#[derive(Debug)]
struct Handshake<T> {
    source: Source,
    progress: Progress,
    tag: T,
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Silent,
    Spoken,
}

/// How many handshakes have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    silent: usize,
    spoken: usize,
}

/// Those of one block.
#[derive(Debug, Default)]
struct Group {
    count: Count,
    sources: HashMap<Source, Members>,
}

/// The numbers of those of one source: the oldest come first.
#[derive(Debug, Default)]
struct Members {
    silent: BTreeSet<u64>,
    spoken: BTreeSet<u64>,
}

impl<T> Handshakes<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, next: 0, unfinished: HashMap::new(), count: Count::default(), blocks: HashMap::new() }
    }

    /// Admits one; returns its number, and what was dropped for it.
    pub(super) fn admit(&mut self, source: &Source, tag: T) -> (u64, Vec<T>) {
        let mut dropped = Vec::new();
        while let Some(one) = self.crowded(source).and_then(|scope| self.drop_one(scope)) {
            dropped.push(one);
        }
        let number = self.next;
        self.next += 1;
        self.count.silent += 1;
        let group = self.blocks.entry(source.block()).or_default();
        group.count.silent += 1;
        group.sources.entry(source.clone()).or_default().silent.insert(number);
        let handshake = Handshake { source: source.clone(), progress: Progress::Silent, tag };
        self.unfinished.insert(number, handshake);
        (number, dropped)
    }

    /// The handshake's first bytes are here.
    pub(super) fn spoken(&mut self, number: u64) {
        let Some(handshake) = self.unfinished.get_mut(&number) else { return };
        if handshake.progress == Progress::Spoken {
            return;
        }
        handshake.progress = Progress::Spoken;
        self.count.speaks();
        if let Some(group) = self.blocks.get_mut(&handshake.source.block()) {
            group.count.speaks();
            if let Some(members) = group.sources.get_mut(&handshake.source) {
                members.silent.remove(&number);
                members.spoken.insert(number);
            }
        }
    }

    /// It is over, whatever came of it.
    pub(super) fn leave(&mut self, number: u64) {
        self.remove(number);
    }

    /// Drops the one that would be dropped if there were too many: what it holds is needed otherwise.
    pub(super) fn shed(&mut self) -> Option<T> {
        self.drop_one(Scope::All)
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.unfinished.len()
    }

    /// Where one more of `source` would be too many.
    fn crowded<'a>(&self, source: &'a Source) -> Option<Scope<'a>> {
        let group = self.blocks.get(&source.block());
        let of_block = group.map_or(0, |group| group.count.all());
        let of_source =
            group.and_then(|group| group.sources.get(source)).map_or(0, |members| members.count().all());
        if of_source >= self.limits.source {
            Some(Scope::Source(source))
        } else if of_block >= self.limits.block {
            Some(Scope::Block(source))
        } else if self.count.all() >= self.limits.total {
            Some(Scope::All)
        } else {
            None
        }
    }

    fn drop_one(&mut self, scope: Scope<'_>) -> Option<T> {
        let number = match scope {
            Scope::All => {
                let progress = self.count.dropped();
                let groups = self.blocks.values();
                groups.filter_map(|group| group.worst(progress)).max()?.2
            }
            Scope::Block(source) => {
                let group = self.blocks.get(&source.block())?;
                group.worst(group.count.dropped())?.2
            }
            Scope::Source(source) => {
                let members = self.blocks.get(&source.block())?.sources.get(source)?;
                Reverse(members.oldest(members.count().dropped())?)
            }
        };
        self.remove(number.0)
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let Handshake { source, progress, tag } = self.unfinished.remove(&number)?;
        self.count.less(progress);
        let block = source.block();
        if let Some(group) = self.blocks.get_mut(&block) {
            group.count.less(progress);
            if let Some(members) = group.sources.get_mut(&source) {
                members.silent.remove(&number);
                members.spoken.remove(&number);
                if members.count().all() == 0 {
                    group.sources.remove(&source);
                }
            }
            if group.count.all() == 0 {
                self.blocks.remove(&block);
            }
        }
        Some(tag)
    }
}

impl Count {
    fn all(self) -> usize {
        self.silent + self.spoken
    }

    fn of(self, progress: Progress) -> usize {
        match progress {
            Progress::Silent => self.silent,
            Progress::Spoken => self.spoken,
        }
    }

    fn speaks(&mut self) {
        self.silent -= 1;
        self.spoken += 1;
    }

    fn less(&mut self, progress: Progress) {
        match progress {
            Progress::Silent => self.silent -= 1,
            Progress::Spoken => self.spoken -= 1,
        }
    }

    /// How far the one has come that is to be dropped of these.
    fn dropped(self) -> Progress {
        if self.spoken * 4 > self.all() * 3 { Progress::Spoken } else { Progress::Silent }
    }
}

impl Group {
    /// Of the source that has most of those that have come so far: how many, in steps of [`FEW`], and the oldest.
    fn worst(&self, progress: Progress) -> Option<(usize, usize, Reverse<u64>)> {
        let sources = self.sources.values();
        let found = sources.filter_map(|members| {
            Some((members.count().of(progress) / FEW, Reverse(members.oldest(progress)?)))
        });
        found.max().map(|(count, oldest)| (self.count.of(progress) / FEW, count, oldest))
    }
}

impl Members {
    fn count(&self) -> Count {
        Count { silent: self.silent.len(), spoken: self.spoken.len() }
    }

    fn oldest(&self, progress: Progress) -> Option<u64> {
        match progress {
            Progress::Silent => self.silent.first().copied(),
            Progress::Spoken => self.spoken.first().copied(),
        }
    }
}

/// Among whom one is dropped.
#[derive(Clone, Copy, Debug)]
enum Scope<'a> {
    Source(&'a Source),
    /// Those of the block that this source is in.
    Block(&'a Source),
    All,
}

#[cfg(test)]
mod tests;
