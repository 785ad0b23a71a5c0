//! One vector of the rows of a hidden layer.

use rkllama_npu::Hidden;
use rkllama_protocol::Pooling;

/// The vector that stands for a text, of length 1; `None` if its rows are no numbers, or all zero.
///
/// Rows are counted from the end: a runtime has none for tokens that it did not compute, and where
/// the first of `tokens` is one of them there is no first row.
pub(crate) fn pool(hidden: Hidden<'_>, tokens: usize, pooling: Pooling) -> Option<Vec<f32>> {
    let rows = || hidden.values.chunks_exact(hidden.width);
    let pooled: Vec<f64> = match pooling {
        Pooling::Last => rows().next_back()?.iter().copied().map(f64::from).collect(),
        Pooling::Cls if rows().len() < tokens => return None,
        Pooling::Cls => rows().next()?.iter().copied().map(f64::from).collect(),
        // Its length does not matter, so the sum will do.
        Pooling::Mean => rows().fold(vec![0.0; hidden.width], |mut sum, row| {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            sum
        }),
    };
    let length = pooled.iter().map(|value| value * value).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "vectors are f32 on every wire")]
    Some(pooled.into_iter().map(|value| (value / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32], pooling: Pooling) -> Option<Vec<f32>> {
        pool(Hidden { values, width: 2 }, values.len() / 2, pooling)
    }

    #[test]
    fn one_row_or_the_mean_is_brought_to_length_one() {
        let rows = [9.0, 9.0, 1.0, 7.0, 3.0, -4.0];
        assert!((of(&rows, Pooling::Cls).unwrap()[0] - 0.5_f32.sqrt()).abs() < 1e-6);
        assert_eq!(of(&rows, Pooling::Last).unwrap(), [0.6, -0.8]);
        let mean = of(&rows, Pooling::Mean).unwrap();
        assert!((mean[0] / mean[1] - 13.0 / 12.0).abs() < 1e-6, "{mean:?}");
        assert!((mean[0].hypot(mean[1]) - 1.0).abs() < 1e-6, "{mean:?}");
    }

    #[test]
    fn rows_that_say_nothing_are_no_vector() {
        let last = Hidden { values: &[3.0, 4.0], width: 2 };
        assert_eq!(pool(last, 2, Pooling::Cls), None, "that is not the first");
        assert_eq!(pool(last, 2, Pooling::Last), Some(vec![0.6, 0.8]));
        for rows in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            assert_eq!(of(&rows, Pooling::Last), None);
        }
    }
}
