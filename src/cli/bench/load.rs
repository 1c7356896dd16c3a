//! What a connection asks for: which keys, how often get and set, values of which size.
//!
//! Everything is drawn from the seed and the connection's number, so two runs with the same
//! arguments ask for the same, in the same order on each connection.

use bytes::Bytes;

/// What all connections ask for.
#[derive(Clone, Debug)]
pub struct Load {
    /// Keys are numbers below this one.
    pub keys: u64,
    /// The exponent of Zipf's law; `None`: every key is as likely as any other.
    pub zipf: Option<f64>,
    /// The part of the requests that are gets, from 0 to 1.
    pub gets: f64,
    /// The smallest and the largest value.
    pub sizes: (usize, usize),
    /// Where chance begins.
    pub seed: u64,
    /// Sets every key once, in order, instead.
    pub fills: bool,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The number of the key.
    pub key: u64,
    /// The size of the value to set; `None` for a get.
    pub set: Option<usize>,
}

impl Load {
    /// The requests of one connection of several.
    pub fn of(&self, connection: u64, connections: u64) -> Asks {
        Asks {
            load: self.clone(),
            chance: Chance(mix(self.seed).wrapping_add(mix(connection + 1))),
            zipf: self.zipf.map(|exponent| Zipf::new(self.keys, exponent)),
            next: connection,
            step: connections,
        }
    }

    /// Bytes that every value is the beginning of.
    pub fn value(&self) -> Bytes {
        let mut chance = Chance(mix(self.seed));
        (0..self.sizes.1).map(|_| b'a' + (chance.below(26) as u8)).collect::<Vec<u8>>().into()
    }
}

/// The requests of one connection, without end; when it fills, for as long as there are keys.
#[derive(Debug)]
pub struct Asks {
    load: Load,
    chance: Chance,
    zipf: Option<Zipf>,
    next: u64,
    step: u64,
}

impl Asks {
    /// The next one.
    pub fn next(&mut self) -> Ask {
        let key = if self.load.fills {
            let key = self.next;
            self.next += self.step;
            key
        } else {
            match &self.zipf {
                Some(zipf) => zipf.draw(&mut self.chance),
                None => self.chance.below(self.load.keys),
            }
        };
        let is_get = !self.load.fills && self.chance.unit() < self.load.gets;
        Ask { key, set: (!is_get).then(|| self.size()) }
    }

    fn size(&mut self) -> usize {
        let (least, most) = self.load.sizes;
        least + self.chance.below((most - least) as u64 + 1) as usize
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): good enough to choose keys, and the same everywhere.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Zipf's law by rejection-inversion (Hörmann and Derflinger 1996): key 0 is asked for most often.
/// It needs no table, however many keys there are.
#[derive(Debug)]
struct Zipf {
    keys: f64,
    exponent: f64,
    first: f64,
    last: f64,
    near: f64,
}

impl Zipf {
    fn new(keys: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf { keys: keys as f64, exponent, first: 0.0, last: 0.0, near: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(zipf.keys + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    fn draw(&self, chance: &mut Chance) -> u64 {
        loop {
            let at = self.last + chance.unit() * (self.first - self.last);
            let x = self.inverse(at);
            let rank = (x + 0.5).floor().clamp(1.0, self.keys);
            if rank - x <= self.near || at >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        // As t goes to 0, (e^t - 1) / t goes to 1.
        let ratio = if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 };
        ratio * log
    }

    fn inverse(&self, y: f64) -> f64 {
        let t = (y * (1.0 - self.exponent)).max(-1.0 + f64::EPSILON);
        let ratio = if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 };
        (ratio * y).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load { keys: 1_000, zipf: None, gets: 0.9, sizes: (10, 20), seed: 7, fills: false }
    }

    #[test]
    fn the_same_seed_asks_the_same_and_another_does_not() {
        let ask = |seed, connection| {
            let mut asks = Load { seed, ..load() }.of(connection, 2);
            (0..100).map(|_| asks.next()).collect::<Vec<_>>()
        };
        assert_eq!(ask(1, 0), ask(1, 0));
        assert_ne!(ask(1, 0), ask(1, 1));
        assert_ne!(ask(1, 0), ask(2, 0));
    }

    #[test]
    fn gets_sets_keys_and_sizes_are_as_said() {
        let mut asks = load().of(0, 1);
        let all: Vec<Ask> = (0..100_000).map(|_| asks.next()).collect();
        let gets = all.iter().filter(|ask| ask.set.is_none()).count();
        assert!(gets.abs_diff(90_000) < 500, "{gets}");
        assert!(all.iter().all(|ask| ask.key < 1_000));
        let sizes: Vec<usize> = all.iter().filter_map(|ask| ask.set).collect();
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&10), Some(&20)));
    }

    #[test]
    fn a_filling_load_sets_every_key_once() {
        let load = Load { fills: true, keys: 10, ..load() };
        let mut keys: Vec<u64> = (0..3)
            .flat_map(|connection| {
                let mut asks = load.of(connection, 3);
                let count = (10 - connection).div_ceil(3);
                (0..count).map(move |_| asks.next().key).collect::<Vec<_>>()
            })
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn zipf_draws_each_rank_as_often_as_the_law_says() {
        for exponent in [0.5, 0.99, 1.0, 1.5] {
            let (zipf, mut chance) = (Zipf::new(100, exponent), Chance(3));
            let draws = 400_000;
            let mut seen = [0u64; 100];
            (0..draws).for_each(|_| seen[zipf.draw(&mut chance) as usize] += 1);
            let weights: Vec<f64> = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let total: f64 = weights.iter().sum();
            for (rank, weight) in weights.iter().enumerate() {
                let expected = weight / total * f64::from(draws);
                let off = (seen[rank] as f64 - expected).abs();
                assert!(off < 6.0 * expected.sqrt(), "exponent {exponent}, rank {rank}: {off}");
            }
        }
    }
}
