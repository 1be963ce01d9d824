//! Random draws that are the same on every machine: ChaCha8's raw words, distributions written here over `libm`.
//!
//! A [`Draw`] is one sub-stream. Each purpose and each pair or person has its own, and within it each event or night
//! may have its own position, so that drawing more in one place changes nothing in another.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Names the generator, so that a change of it makes other worlds on purpose only.
const GENERATOR: &[u8; 24] = b"nudge-sim chacha8 v1\0\0\0\0";

/// The words that an event or a night may use: 64 of 64 bits.
const WORDS_PER_PLACE: u128 = 128;

/// What a sub-stream is for; the discriminant is a part of the stream's number.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// What a pair is: base price, warmth, tenure.
    Pair = 1,
    /// What a person is.
    Person = 2,
    /// When a person's requests come, up to now.
    Arrivals = 3,
    /// What such a request is about, one place each.
    Wish = 4,
    /// How it goes, one place each.
    Course = 5,
    /// When a person's requests come after now.
    FurtherArrivals = 6,
    /// What such a request is about, one place each.
    FurtherWish = 7,
    /// How it goes, one place each.
    FurtherCourse = 8,
    /// A lease's nights, one place a date.
    Night = 9,
}

/// One sub-stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// Opens the sub-stream of a purpose and a pair or person.
    pub(crate) fn new(seed: u64, purpose: Purpose, index: usize) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..].copy_from_slice(GENERATOR);
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream((purpose as u64) << 56 | index as u64);
        Self(rng)
    }

    /// Moves to a place of its own within the sub-stream.
    pub(crate) fn at(mut self, place: u64) -> Self {
        self.0.set_word_pos(u128::from(place) * WORDS_PER_PLACE);
        self
    }

    /// Draws uniformly from 0 (in) to 1 (out), with 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Says yes with a probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Draws from the standard normal distribution (Box–Muller, one of the pair, so always two words).
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        libm::sqrt(-2.0 * libm::log(radius)) * libm::cos(std::f64::consts::TAU * angle)
    }

    /// Draws from the exponential distribution with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.uniform())
    }

    /// Draws from the gamma distribution with scale 1 and a shape of at least 1 (Marsaglia and Tsang 2000).
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape.max(1.0) - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
            let u = 1.0 - self.uniform();
            if v > 0.0 && libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// Draws from the beta distribution given by its mean and its number of observations.
    pub(crate) fn beta(&mut self, mean: f64, n: f64) -> f64 {
        let (a, b) = (self.gamma(mean * n), self.gamma((1.0 - mean) * n));
        a / (a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let n = 40_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = draw();
            sum += x;
            squares += x * x;
        }
        let mean = sum / f64::from(n);
        (mean, squares / f64::from(n) - mean * mean)
    }

    fn assert_moments(draw: impl FnMut() -> f64, mean: f64, variance: f64) {
        let (m, v) = moments(draw);
        assert!((m - mean).abs() < 5.0 * (variance / 40_000.0).sqrt(), "mean {m}, expected {mean}");
        assert!((v / variance - 1.0).abs() < 0.08, "variance {v}, expected {variance}");
    }

    #[test]
    fn distributions_have_their_moments() {
        let mut d = Draw::new(1, Purpose::Pair, 0);
        assert_moments(|| d.uniform(), 0.5, 1.0 / 12.0);
        assert_moments(|| d.normal(), 0.0, 1.0);
        assert_moments(|| d.exponential(), 1.0, 1.0);
        assert_moments(|| d.gamma(1.0), 1.0, 1.0);
        assert_moments(|| d.gamma(2.0), 2.0, 2.0);
        assert_moments(|| d.beta(0.25, 12.0), 0.25, 0.25 * 0.75 / 13.0);
        assert_moments(|| d.beta(0.85, 14.0), 0.85, 0.85 * 0.15 / 15.0);
    }

    #[test]
    fn places_do_not_depend_on_what_was_drawn_before() {
        let base = Draw::new(7, Purpose::Night, 3);
        let mut used = base.clone();
        used.normal();
        assert_eq!(base.clone().at(20_000).uniform().to_bits(), used.at(20_000).uniform().to_bits());
        assert_ne!(base.clone().at(1).uniform().to_bits(), base.at(2).uniform().to_bits());
    }

    #[test]
    fn the_generator_is_pinned() {
        let mut d = Draw::new(42, Purpose::Person, 5);
        let words: Vec<u64> = (0..3).map(|_| d.0.next_u64()).collect();
        assert_eq!(words, [869_126_316_219_874_236, 2_384_935_884_141_040_024, 2_445_318_500_758_730_221]);
    }
}
