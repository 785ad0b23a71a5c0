//! Which models may be in the NPU's memory at once, where, and who has to go.
//!
//! The NPU addresses 4 GiB in each of 16 domains, and filling one to the brim damages its
//! neighbour. So memory is planned before a load, not tried out: a model gets whole domains of its
//! own or a part of one, and when there is no place the model that was used least recently has to
//! leave, an idle one first. One that is busy leaves after its current answer, whoever waits for it
//! then: otherwise one busy model would lock out all others.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rkllama_core::{EngineError, Model};
use tokio::sync::Notify;

use crate::config::MemoryBudget;

/// The NPU's address domains.
const DOMAINS: usize = 16;
/// The one that encoders are in.
const ENCODER_DOMAIN: usize = 0;
/// What a runtime takes beside weights and KV cache, from the vendor's table: RAM = file + 150 MB.
const RUNTIME_BYTES: u64 = 150 << 20;
/// KV cache per token of context and byte of weights: a model of 1.7 GB keeps 114 KiB a token.
const KV_BYTES_PER_TOKEN_AND_GB: u64 = 68 << 10;

/// The memory a model is planned with, in bytes: what its manifest says, else an estimate.
pub(crate) fn memory_bytes(model: &Model) -> u64 {
    model.memory_bytes.unwrap_or_else(|| {
        let kv = u64::from(model.context_tokens_max)
            .saturating_mul(KV_BYTES_PER_TOKEN_AND_GB)
            .saturating_mul(model.weights_bytes / 1_000_000)
            / 1000;
        let adapter = model.adapter.as_ref().map_or(0, |adapter| adapter.bytes);
        model.weights_bytes.saturating_add(adapter).saturating_add(RUNTIME_BYTES).saturating_add(kv)
    })
}

/// The plan of the NPU's memory.
#[derive(Debug)]
pub(crate) struct Residency {
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Debug)]
struct Table {
    budget: MemoryBudget,
    /// Ids of models that nobody makes leave.
    pinned: BTreeSet<String>,
    /// By number and not by model: a model whose record has changed is in two places for a while.
    places: HashMap<u64, Taken>,
    places_given: u64,
    /// Counts uses: the order of "recently".
    clock: u64,
}

#[derive(Debug)]
struct Taken {
    model: String,
    bytes: u64,
    domains: Vec<(usize, u64)>,
    used: u64,
    busy: bool,
    leaving: Arc<Leaving>,
}

/// The request to leave.
#[derive(Debug, Default)]
struct Leaving {
    asked: AtomicBool,
    notify: Notify,
}

/// A model's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    residency: Arc<Residency>,
    number: u64,
    leaving: Arc<Leaving>,
    /// The first address domain.
    pub(crate) base_domain: u8,
}

impl Residency {
    pub(crate) fn new(budget: MemoryBudget, pinned: BTreeSet<String>) -> Self {
        let places = HashMap::new();
        let table = Table { budget, pinned, places, places_given: 0, clock: 0 };
        Self { table: Mutex::new(table), changed: Notify::new() }
    }

    /// Plans with another budget from now on. Who has no room in it any more has to leave, the
    /// least recently used first.
    pub(crate) fn reconfigure(&self, budget: MemoryBudget, pinned: BTreeSet<String>) {
        let mut table = self.lock();
        table.budget = budget;
        table.pinned = pinned;
        table.shrink();
        drop(table);
        self.changed.notify_waiters();
    }

    /// Finds a place, making room if need be. One caller at a time: loads are serialised.
    pub(crate) async fn admit(self: &Arc<Self>, model: &Model) -> Result<Place, EngineError> {
        let encoder_bytes = model.vision.as_ref().map(|vision| {
            let head_bytes = vision.pointer_head.as_ref().map_or(0, |head| head.bytes);
            vision.encoder_bytes.saturating_add(head_bytes)
        });
        let weights_bytes = memory_bytes(model);
        let bytes = weights_bytes.saturating_add(encoder_bytes.unwrap_or(0));
        loop {
            // Before the look, so that no change between look and wait is missed.
            let changed = self.changed.notified();
            {
                let mut table = self.lock();
                if let Some(domains) = table.find(weights_bytes, encoder_bytes) {
                    return Ok(self.take(&mut table, model, bytes, domains));
                }
                let Some(victim) = table.victim() else {
                    return Err(table.too_large(model, bytes));
                };
                victim.ask();
            }
            changed.await;
        }
    }

    fn take(
        self: &Arc<Self>,
        table: &mut Table,
        model: &Model,
        bytes: u64,
        domains: Vec<(usize, u64)>,
    ) -> Place {
        let base_domain = domains.first().map_or(0, |(domain, _)| *domain);
        let leaving = Arc::<Leaving>::default();
        table.clock += 1;
        let taken = Taken {
            model: model.id.clone(),
            bytes,
            domains,
            used: table.clock,
            busy: true,
            leaving: Arc::clone(&leaving),
        };
        table.places_given += 1;
        let number = table.places_given;
        table.places.insert(number, taken);
        Place {
            residency: Arc::clone(self),
            number,
            leaving,
            base_domain: u8::try_from(base_domain).unwrap_or(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Domains for so many bytes, if the budget allows them now. The vendor's runtime for vision puts
    /// encoders into the first domain whatever it is told, and a model beside its encoder there has
    /// failed: such a model begins in the second.
    fn find(&self, bytes: u64, encoder_bytes: Option<u64>) -> Option<Vec<(usize, u64)>> {
        let taken: u64 = self.places.values().map(|place| place.bytes).sum();
        let taken = taken.saturating_add(encoder_bytes.unwrap_or(0));
        if self.places.len() >= self.budget.models_max.get()
            || taken.saturating_add(bytes) > self.budget.memory_bytes_max
        {
            return None;
        }
        let mut free = [self.budget.domain_bytes_max; DOMAINS];
        for (domain, bytes) in self.places.values().flat_map(|place| &place.domains) {
            free[*domain] = free[*domain].saturating_sub(*bytes);
        }
        let Some(encoder) = encoder_bytes else {
            return (0..DOMAINS).find_map(|base| self.fit(&free, base, bytes));
        };
        let mut domains = (1..DOMAINS).find_map(|base| self.fit(&free, base, bytes))?;
        // Behind the model's own, the first of which it is told.
        domains.push((ENCODER_DOMAIN, encoder));
        (encoder <= free[ENCODER_DOMAIN]).then_some(domains)
    }

    /// The domains from `base` on that hold so many bytes. What spans several takes empty ones
    /// only: where the runtime puts the parts is not ours to say.
    fn fit(&self, free: &[u64; DOMAINS], base: usize, bytes: u64) -> Option<Vec<(usize, u64)>> {
        if bytes <= free[base] {
            return Some(vec![(base, bytes)]);
        }
        let whole = self.budget.domain_bytes_max;
        let mut rest = bytes;
        let mut domains = Vec::new();
        for (domain, &room) in free.iter().enumerate().skip(base) {
            if room < whole || rest == 0 {
                break;
            }
            let part = rest.min(whole);
            domains.push((domain, part));
            rest -= part;
        }
        (rest == 0).then_some(domains)
    }

    fn too_large(&self, model: &Model, bytes: u64) -> EngineError {
        let megabytes = |bytes: u64| bytes / 1_000_000;
        let mut reason = format!(
            "it needs about {} MB and the budget is {} MB",
            megabytes(bytes),
            megabytes(self.budget.memory_bytes_max)
        );
        let pinned: Vec<&str> = self.places.values().map(|place| place.model.as_str()).collect();
        if !pinned.is_empty() {
            reason
                .push_str(&format!(", of which pinned models hold a part: {}", pinned.join(", ")));
        }
        EngineError::Load { model: model.id.clone(), reason }
    }

    /// Asks models to leave until the others fit the budget.
    fn shrink(&self) {
        loop {
            let stay = || self.places.values().filter(|place| !place.leaving.is_asked());
            let bytes: u64 = stay().map(|place| place.bytes).sum();
            let fits = stay().count() <= self.budget.models_max.get()
                && bytes <= self.budget.memory_bytes_max;
            let unpinned = stay().filter(|place| !self.pinned.contains(&place.model));
            match unpinned.min_by_key(|place| (place.busy, place.used)) {
                Some(place) if !fits => place.leaving.ask(),
                _ => return,
            }
        }
    }

    /// Who has to go next: whoever was asked already, else the least recently used, idle ones
    /// first. `None` when only pinned models are left.
    fn victim(&self) -> Option<Arc<Leaving>> {
        self.places
            .values()
            .filter(|place| !self.pinned.contains(&place.model))
            .min_by_key(|place| (!place.leaving.is_asked(), place.busy, place.used))
            .map(|place| Arc::clone(&place.leaving))
    }
}

impl Leaving {
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    fn ask(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }
}

impl Place {
    /// Marks the model as answering, and as used now.
    pub(crate) fn busy(&self) {
        self.update(true);
    }

    /// Marks the model as idle.
    pub(crate) fn idle(&self) {
        self.update(false);
        self.residency.changed.notify_waiters();
    }

    fn update(&self, busy: bool) {
        let mut table = self.residency.lock();
        table.clock += 1;
        let now = table.clock;
        if let Some(place) = table.places.get_mut(&self.number) {
            place.busy = busy;
            place.used = now;
        }
    }

    /// Resolves when another model needs this place. Safe to drop while waiting.
    pub(crate) async fn wanted(&self) {
        while !self.leaving.is_asked() {
            self.leaving.notify.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.residency.lock().places.remove(&self.number);
        self.residency.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, path::PathBuf};

    use rkllama_core::{ModelState, Sampling};

    use super::*;

    const GB: u64 = 1_000_000_000;

    fn model(id: &str, bytes: u64) -> Model {
        Model {
            id: id.to_owned(),
            created_s: 0,
            weights: PathBuf::new(),
            weights_bytes: 0,
            memory_bytes: Some(bytes),
            context_tokens_max: 4096,
            sampling: Sampling::default(),
            tokens_max: None,
            runtime: None,
            pooling: None,
            reranks: None,
            query_instruction: None,
            vision: None,
            adapter: None,
            presets: rkllama_core::Presets::default(),
            state: ModelState::Ready,
        }
    }

    fn residency(memory_bytes_max: u64, models_max: usize) -> Arc<Residency> {
        let pinned = BTreeSet::from(["pinned".to_owned()]);
        Arc::new(Residency::new(budget(memory_bytes_max, models_max), pinned))
    }

    fn budget(memory_bytes_max: u64, models_max: usize) -> MemoryBudget {
        let models_max = NonZeroUsize::new(models_max).unwrap();
        MemoryBudget { memory_bytes_max, domain_bytes_max: 3 * GB, models_max }
    }

    async fn admitted(residency: &Arc<Residency>, id: &str, bytes: u64) -> Place {
        residency.admit(&model(id, bytes)).await.unwrap()
    }

    #[tokio::test]
    async fn models_share_a_domain_until_it_is_full() {
        let residency = residency(100 * GB, 9);
        let places = [
            admitted(&residency, "a", 2 * GB).await,
            admitted(&residency, "b", GB).await,
            admitted(&residency, "c", GB).await,
            admitted(&residency, "d", 7 * GB).await,
            admitted(&residency, "e", 2 * GB).await,
        ];
        let bases = places.each_ref().map(|place| place.base_domain);
        assert_eq!(bases, [0, 0, 1, 2, 1], "the large one takes domains 2 to 4");
        drop(places);
        assert_eq!(admitted(&residency, "f", 9 * GB).await.base_domain, 0);
    }

    #[tokio::test]
    async fn the_least_recently_used_leaves_idle_ones_first() {
        let residency = residency(3 * GB, 9);
        let [a, b, c] = [
            admitted(&residency, "a", GB).await,
            admitted(&residency, "b", GB).await,
            admitted(&residency, "c", GB).await,
        ];
        b.idle();
        c.idle();
        a.busy();
        let arrival = tokio::spawn({
            let residency = Arc::clone(&residency);
            async move { admitted(&residency, "d", GB).await }
        });
        b.wanted().await;
        assert!(!a.leaving.asked.load(Ordering::Relaxed), "busy");
        assert!(!c.leaving.asked.load(Ordering::Relaxed), "used later");
        drop(b);
        arrival.await.unwrap();
    }

    #[tokio::test]
    async fn pinned_models_stay_and_the_refusal_names_them() {
        let residency = residency(3 * GB, 9);
        let _pinned = residency.admit(&model("pinned", 2 * GB)).await.unwrap();
        let error = residency.admit(&model("big", 2 * GB)).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("needs about 2000 MB") && text.contains("models hold a part: pinned"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_model_in_two_places_is_counted_twice() {
        let residency = residency(3 * GB, 9);
        let old = admitted(&residency, "a", GB).await;
        let new = admitted(&residency, "a", GB).await;
        drop(old);
        let taken = |residency: &Residency| residency.lock().places.len();
        assert_eq!(taken(&residency), 1, "the old one's end does not free the new one's place");
        drop(new);
        assert_eq!(taken(&residency), 0);
    }

    #[tokio::test]
    async fn what_can_never_fit_is_refused_at_once() {
        let residency = residency(3 * GB, 9);
        assert!(residency.admit(&model("huge", 4 * GB)).await.is_err());
    }

    #[tokio::test]
    async fn the_number_of_models_is_bounded() {
        let residency = residency(100 * GB, 1);
        let first = admitted(&residency, "a", GB).await;
        let arrival = tokio::spawn({
            let residency = Arc::clone(&residency);
            async move { admitted(&residency, "b", GB).await }
        });
        first.wanted().await;
        drop(first);
        arrival.await.unwrap();
    }

    #[tokio::test]
    async fn a_smaller_budget_sends_away_what_has_no_room_in_it() {
        let residency = residency(9 * GB, 9);
        let [pinned, a, b, c] = [
            admitted(&residency, "pinned", GB).await,
            admitted(&residency, "a", GB).await,
            admitted(&residency, "b", GB).await,
            admitted(&residency, "c", GB).await,
        ];
        for place in [&pinned, &a, &b, &c] {
            place.idle();
        }
        let asked = || [&pinned, &a, &b, &c].map(|place| place.leaving.is_asked());
        residency.reconfigure(budget(9 * GB, 3), BTreeSet::from(["pinned".to_owned()]));
        assert_eq!(asked(), [false, true, false, false], "the least recently used");
        residency.reconfigure(budget(GB, 3), BTreeSet::from(["b".to_owned()]));
        assert_eq!(asked(), [true, true, false, true], "who is pinned is another one now");
    }

    /// A load that waits for room gets it when the budget grows.
    #[tokio::test]
    async fn a_larger_budget_lets_in_who_waits() {
        let residency = residency(GB, 9);
        let _busy = admitted(&residency, "a", GB).await;
        let arrival = tokio::spawn({
            let residency = Arc::clone(&residency);
            async move { admitted(&residency, "b", GB).await }
        });
        _busy.wanted().await;
        residency.reconfigure(budget(2 * GB, 9), BTreeSet::new());
        arrival.await.unwrap();
    }

    #[test]
    fn the_estimate_is_weights_cache_and_runtime() {
        let model = Model { weights_bytes: 1_700_000_000, memory_bytes: None, ..model("m", 0) };
        let estimate = memory_bytes(&model) / 1_000_000;
        assert!((2200..2500).contains(&estimate), "{estimate} MB");
    }
}
