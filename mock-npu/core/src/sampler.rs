//! From logits to a token: penalties, top-k, top-p, temperature, mirostat.
//!
//! The order of the steps is llama.cpp's, on which the vendor's runtime is built.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

/// Tokens at the end of the context that penalties look at.
const PENALTY_WINDOW: usize = 64;

/// The parameters, as the vendor names them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Sampling {
    pub(crate) top_k: i32,
    pub(crate) top_p: f32,
    pub(crate) temperature: f32,
    pub(crate) repeat_penalty: f32,
    pub(crate) frequency_penalty: f32,
    pub(crate) presence_penalty: f32,
    pub(crate) mirostat: i32,
    pub(crate) mirostat_tau: f32,
    pub(crate) mirostat_eta: f32,
}

impl Sampling {
    /// All parameters as words, to seed a stream with.
    pub(crate) fn words(&self) -> [u64; 9] {
        let bits = |value: f32| u64::from(value.to_bits());
        [
            self.top_k as u64,
            bits(self.top_p),
            bits(self.temperature),
            bits(self.repeat_penalty),
            bits(self.frequency_penalty),
            bits(self.presence_penalty),
            self.mirostat as u64,
            bits(self.mirostat_tau),
            bits(self.mirostat_eta),
        ]
    }
}

/// The logits of one step: a few that matter, and a fixed floor under all others.
pub(crate) struct Logits<'a> {
    /// By rising token id, each token once.
    pub(crate) near: Vec<(u32, f32)>,
    /// Logit of every token that is not in `near`.
    pub(crate) floor: &'a [f32],
    /// The best of the floor, best first.
    pub(crate) floor_best: &'a [u32],
}

impl Logits<'_> {
    fn is_near(&self, token: u32) -> bool {
        self.near.binary_search_by_key(&token, |(id, _)| *id).is_ok()
    }

    /// Makes tokens impossible.
    pub(crate) fn ban(&mut self, tokens: &[u32]) {
        for (token, logit) in &mut self.near {
            if tokens.contains(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// The whole row.
    pub(crate) fn write_row(&self, row: &mut Vec<f32>) {
        let start = row.len();
        row.extend_from_slice(self.floor);
        for (token, logit) in &self.near {
            if let Some(cell) = row.get_mut(start + *token as usize) {
                *cell = *logit;
            }
        }
    }

    /// The tokens that can be among the best `k` after penalties. For `k` ≤ 0 these are all that
    /// stand out; what is left is a tail that [`Tail`] weighs without looking at each.
    fn pool(&self, k: i32, counts: &HashMap<u32, f32>) -> Vec<(u32, f32)> {
        let wanted = usize::try_from(k).unwrap_or(0);
        let enough = wanted + counts.len();
        let mut pool = self.near.clone();
        if enough > self.floor_best.len() {
            let all = (0..self.floor.len() as u32).filter(|id| !self.is_near(*id));
            pool.extend(all.map(|id| (id, self.floor[id as usize])));
        } else if wanted == 0 {
            let said = counts.keys().filter(|id| (**id as usize) < self.floor.len());
            let mut far: Vec<u32> = self.floor_best.iter().chain(said).copied().collect();
            far.sort_unstable();
            far.dedup();
            let far = far.into_iter().filter(|id| !self.is_near(*id));
            pool.extend(far.map(|id| (id, self.floor[id as usize])));
        } else if pool.len() < enough || !counts.is_empty() {
            let best = self.floor_best.iter().filter(|id| !self.is_near(**id)).take(enough);
            pool.extend(best.map(|id| (*id, self.floor[*id as usize])));
        }
        pool
    }
}

/// The mass of all floor logits at one temperature, computed once a run: 150,000 exponentials are
/// too many for every token.
#[derive(Default)]
struct Tail {
    known: Vec<(f32, f64)>,
}

impl Tail {
    /// Sum over the floor of e^((logit - top) / temperature), less the part of `pool`.
    fn mass(
        &mut self,
        logits: &Logits<'_>,
        pool: &[(u32, f32)],
        top: f32,
        temperature: f32,
    ) -> f64 {
        let weigh = |logit: f32| f64::from(logit / temperature).exp();
        let known = self.known.iter().find(|(at, _)| *at == temperature).map(|(_, mass)| *mass);
        let whole = known.unwrap_or_else(|| {
            let whole = logits.floor.iter().map(|logit| weigh(*logit)).sum();
            self.known.push((temperature, whole));
            whole
        });
        let floor_of = |id: &u32| logits.floor.get(*id as usize).copied();
        let held: f64 = pool.iter().filter_map(|(id, _)| floor_of(id)).map(weigh).sum();
        (whole - held).max(0.0) * (f64::from(-top / temperature)).exp()
    }

    /// The token of the tail in which a share of its mass ends.
    fn token(logits: &Logits<'_>, pool: &[(u32, f32)], share: f64) -> u32 {
        let held: HashSet<u32> = pool.iter().map(|(id, _)| *id).collect();
        let far: Vec<u32> =
            (0..logits.floor.len() as u32).filter(|id| !held.contains(id)).collect();
        // The noise on the floor is small, so that its tokens are as good as equal.
        far.get((share * far.len() as f64) as usize).or(far.last()).copied().unwrap_or(0)
    }
}

/// Draws tokens; carries mirostat's state through a run.
pub(crate) struct Sampler {
    sampling: Sampling,
    /// Mirostat's running bound on surprise.
    surprise_max: f32,
    tail: Tail,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling) -> Self {
        Sampler { sampling, surprise_max: 2.0 * sampling.mirostat_tau, tail: Tail::default() }
    }

    /// The next token; `chance` in [0, 1) decides the draw.
    pub(crate) fn pick(&mut self, logits: &Logits<'_>, context: &[u32], chance: f64) -> u32 {
        let s = self.sampling;
        let counts = self.recent(context);
        let greedy = s.temperature <= 0.0 || (s.top_k == 1 && s.mirostat == 0);
        let k = match (greedy, s.mirostat) {
            (true, _) => 1,
            (false, 0) => s.top_k,
            (false, _) => 0,
        };
        let mut pool = logits.pool(k, &counts);
        self.penalise(&mut pool, &counts);
        pool.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if greedy {
            return pool.first().map_or(0, |(token, _)| *token);
        }
        match s.mirostat {
            1 | 2 => self.pick_mirostat(pool, chance),
            _ if s.top_k > 0 => {
                pool.truncate(s.top_k as usize);
                keep_top_p(&mut pool, s.top_p);
                draw(&softmax(&pool, s.temperature), &pool, chance)
            }
            _ => self.pick_from_all(logits, pool, chance),
        }
    }

    fn recent(&self, context: &[u32]) -> HashMap<u32, f32> {
        let s = &self.sampling;
        let idle = (s.repeat_penalty == 1.0 || s.repeat_penalty <= 0.0)
            && s.frequency_penalty == 0.0
            && s.presence_penalty == 0.0;
        let mut counts = HashMap::new();
        if !idle {
            for token in context.iter().rev().take(PENALTY_WINDOW) {
                *counts.entry(*token).or_default() += 1.0;
            }
        }
        counts
    }

    fn penalise(&self, pool: &mut [(u32, f32)], counts: &HashMap<u32, f32>) {
        if counts.is_empty() {
            return;
        }
        let s = &self.sampling;
        for (token, logit) in pool {
            let Some(count) = counts.get(token) else { continue };
            if s.repeat_penalty > 0.0 {
                *logit = if *logit > 0.0 {
                    *logit / s.repeat_penalty
                } else {
                    *logit * s.repeat_penalty
                };
            }
            *logit -= count * s.frequency_penalty + s.presence_penalty;
        }
    }

    /// Without top-k the whole vocabulary takes part: those that stand out one by one, the rest as
    /// one mass. A top-p that reaches into the rest keeps all of it.
    fn pick_from_all(
        &mut self,
        logits: &Logits<'_>,
        mut pool: Vec<(u32, f32)>,
        chance: f64,
    ) -> u32 {
        let s = self.sampling;
        let top = pool.first().map_or(0.0, |(_, logit)| *logit);
        let weigh =
            |temperature: f32| move |logit: f32| f64::from((logit - top) / temperature).exp();
        let mut rest = self.tail.mass(logits, &pool, top, s.temperature);
        if s.top_p < 1.0 {
            let near: f64 = pool.iter().map(|(_, logit)| weigh(1.0)(*logit)).sum();
            let wanted = f64::from(s.top_p) * (near + self.tail.mass(logits, &pool, top, 1.0));
            let mut sum = 0.0;
            let last = pool.iter().position(|(_, logit)| {
                sum += weigh(1.0)(*logit);
                sum >= wanted
            });
            if let Some(last) = last {
                pool.truncate(last + 1);
                rest = 0.0;
            }
        }
        let near: f64 = pool.iter().map(|(_, logit)| weigh(s.temperature)(*logit)).sum();
        let mut left = chance * (near + rest);
        for (token, logit) in &pool {
            left -= weigh(s.temperature)(*logit);
            if left < 0.0 {
                return *token;
            }
        }
        if rest == 0.0 {
            pool.last().map_or(0, |p| p.0)
        } else {
            Tail::token(logits, &pool, left / rest)
        }
    }

    /// Mirostat 2 cuts the tokens that surprise more than the bound; version 1 cuts to the number
    /// of tokens that Zipf's law expects for it. Both then move the bound towards tau.
    fn pick_mirostat(&mut self, mut pool: Vec<(u32, f32)>, chance: f64) -> u32 {
        let s = self.sampling;
        let chances = softmax(&pool, s.temperature);
        let keep = if s.mirostat == 1 {
            zipf_count(&chances, self.surprise_max, pool.len())
        } else {
            chances.iter().take_while(|p| -p.log2() <= self.surprise_max).count()
        };
        pool.truncate(keep.max(1));
        let chances = softmax(&pool, s.temperature);
        let token = draw(&chances, &pool, chance);
        let at = pool.iter().position(|(id, _)| *id == token).unwrap_or(0);
        let surprise = -chances[at].max(f32::MIN_POSITIVE).log2();
        self.surprise_max -= s.mirostat_eta * (surprise - s.mirostat_tau);
        token
    }
}

fn zipf_count(chances: &[f32], surprise_max: f32, vocab_len: usize) -> usize {
    let (mut product, mut square) = (0.0, 0.0);
    for (rank, pair) in chances.windows(2).take(99).enumerate() {
        let t = ((rank + 2) as f32 / (rank + 1) as f32).ln();
        product += t * (pair[0] / pair[1].max(f32::MIN_POSITIVE)).ln();
        square += t * t;
    }
    let s = if square > 0.0 { product / square } else { 1.0 };
    let epsilon = s - 1.0;
    let k =
        (epsilon * surprise_max.exp2() / (1.0 - (vocab_len as f32).powf(-epsilon))).powf(1.0 / s);
    if k.is_finite() { k.round().clamp(1.0, vocab_len as f32) as usize } else { vocab_len }
}

/// Chances of a pool that is sorted by falling logit.
fn softmax(pool: &[(u32, f32)], temperature: f32) -> Vec<f32> {
    let top = pool.first().map_or(0.0, |(_, logit)| *logit);
    let mut chances: Vec<f32> =
        pool.iter().map(|(_, logit)| ((logit - top) / temperature).exp()).collect();
    let total: f32 = chances.iter().sum();
    chances.iter_mut().for_each(|chance| *chance /= total);
    chances
}

fn keep_top_p(pool: &mut Vec<(u32, f32)>, top_p: f32) {
    if top_p >= 1.0 {
        return;
    }
    let mut sum = 0.0;
    let keep = softmax(pool, 1.0).iter().position(|chance| {
        sum += chance;
        sum >= top_p
    });
    pool.truncate(keep.map_or(pool.len(), |last| last + 1));
}

fn draw(chances: &[f32], pool: &[(u32, f32)], chance: f64) -> u32 {
    let mut sum = 0.0;
    let hit = chances.iter().position(|p| {
        sum += f64::from(*p);
        chance < sum
    });
    let at = hit.unwrap_or(pool.len().saturating_sub(1));
    pool.get(at).map_or(0, |(token, _)| *token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Sampling = Sampling {
        top_k: 0,
        top_p: 1.0,
        temperature: 1.0,
        repeat_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        mirostat: 0,
        mirostat_tau: 5.0,
        mirostat_eta: 0.1,
    };

    const LEN: usize = 50;

    fn best_of(floor: &[f32]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..floor.len() as u32).collect();
        order.sort_by(|a, b| floor[*b as usize].total_cmp(&floor[*a as usize]));
        order
    }

    /// What the sampler must agree with: the row written out and sorted.
    fn sorted_row(logits: &Logits<'_>) -> Vec<(u32, f32)> {
        let mut row = Vec::new();
        logits.write_row(&mut row);
        let mut row: Vec<(u32, f32)> = (0..).zip(row).collect();
        row.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        row
    }

    prop_compose! {
        fn rows()(
            floor in prop::collection::vec(-9.0f32..-5.0, LEN),
            near in prop::collection::btree_map(0..LEN as u32, -4.0f32..12.0, 1..12),
        ) -> (Vec<f32>, Vec<(u32, f32)>) {
            (floor, near.into_iter().collect())
        }
    }

    proptest! {
        #[test]
        fn greedy_is_the_argmax_of_the_row((floor, near) in rows(), chance in 0.0f64..1.0) {
            let best = best_of(&floor);
            let logits = Logits { near, floor: &floor, floor_best: &best };
            let top = sorted_row(&logits)[0].0;
            for greedy in [Sampling { top_k: 1, ..PLAIN }, Sampling { temperature: 0.0, ..PLAIN }] {
                prop_assert_eq!(Sampler::new(greedy).pick(&logits, &[], chance), top);
            }
        }

        #[test]
        fn top_k_and_top_p_restrict(
            (floor, near) in rows(),
            chance in 0.0f64..1.0,
            k in 1i32..8,
            p in 0.05f32..0.95,
        ) {
            let best = best_of(&floor);
            let logits = Logits { near, floor: &floor, floor_best: &best };
            let row = sorted_row(&logits);
            let picked = Sampler::new(Sampling { top_k: k, ..PLAIN }).pick(&logits, &[], chance);
            prop_assert!(row[..k as usize].iter().any(|(id, _)| *id == picked));
            let picked = Sampler::new(Sampling { top_p: p, ..PLAIN }).pick(&logits, &[], chance);
            let chances = softmax(&row, 1.0);
            let rank = row.iter().position(|(id, _)| *id == picked).expect("in the row");
            prop_assert!(chances[..rank].iter().sum::<f32>() < p, "all before it fill p");
        }

        #[test]
        fn a_whole_row_and_its_best_part_draw_the_same(
            (floor, near) in rows(),
            chance in 0.0f64..1.0,
            k in 1i32..20,
        ) {
            let best = best_of(&floor);
            let some = Logits { near: near.clone(), floor: &floor, floor_best: &best };
            let none = Logits { near, floor: &floor, floor_best: &[] };
            let sampling = Sampling { top_k: k, repeat_penalty: 1.3, ..PLAIN };
            let context = [1, 2, 3, 4, 5];
            prop_assert_eq!(
                Sampler::new(sampling).pick(&some, &context, chance),
                Sampler::new(sampling).pick(&none, &context, chance)
            );
        }
    }

    #[test]
    fn without_top_k_the_tail_is_drawn_as_often_as_its_mass() {
        let floor: Vec<f32> = vec![0.0; 1000];
        let best: Vec<u32> = (0..20).collect();
        let logits = Logits { near: vec![(0, 5.0)], floor: &floor, floor_best: &best };
        let mut sampler = Sampler::new(PLAIN);
        let drawn: Vec<u32> =
            (0..1000).map(|n| sampler.pick(&logits, &[], f64::from(n) / 1e3)).collect();
        // e^5 against 999 tokens of weight 1.
        let top = drawn.iter().filter(|token| **token == 0).count();
        assert!((top as f32 - 1000.0 * 148.4 / 1147.4).abs() < 3.0, "{top}");
        assert!(drawn.iter().any(|token| *token > 990), "the far end is reached");
    }

    #[test]
    fn each_penalty_moves_the_choice_away_from_what_was_said() {
        let floor = vec![-9.0; 4];
        let near = vec![(0, 10.0), (1, 9.5)];
        let logits = Logits { near, floor: &floor, floor_best: &[2, 3] };
        let greedy = Sampling { top_k: 1, ..PLAIN };
        let pick = |sampling| Sampler::new(sampling).pick(&logits, &[0], 0.5);
        assert_eq!(pick(greedy), 0);
        assert_eq!(pick(Sampling { repeat_penalty: 1.2, ..greedy }), 1);
        assert_eq!(pick(Sampling { frequency_penalty: 1.0, ..greedy }), 1);
        assert_eq!(pick(Sampling { presence_penalty: 1.0, ..greedy }), 1);
    }

    #[test]
    fn temperature_flattens_the_choice() {
        let floor = vec![-9.0; 4];
        let logits = Logits { near: vec![(0, 4.0), (1, 2.0)], floor: &floor, floor_best: &[2, 3] };
        let share = |temperature| {
            let mut sampler = Sampler::new(Sampling { temperature, ..PLAIN });
            (0..1000).filter(|n| sampler.pick(&logits, &[], f64::from(*n) / 1e3) == 0).count()
        };
        assert!(share(0.5) > share(1.0) && share(1.0) > share(3.0));
    }

    #[test]
    fn mirostat_lowers_its_bound_after_surprises() {
        let floor = vec![-9.0; 4];
        let logits = Logits { near: vec![(0, 4.0), (1, 2.0)], floor: &floor, floor_best: &[2, 3] };
        for mirostat in [1, 2] {
            let sampling = Sampling { mirostat, mirostat_tau: 0.1, mirostat_eta: 0.9, ..PLAIN };
            let mut sampler = Sampler::new(sampling);
            let first = sampler.pick(&logits, &[], 0.95);
            let later: Vec<u32> = (0..5).map(|_| sampler.pick(&logits, &[], 0.95)).collect();
            assert_eq!(first, 0, "the bound is 0.2 bits, and token 1 surprises by 3");
            assert!(later.iter().all(|token| *token == 0));
        }
    }
}
