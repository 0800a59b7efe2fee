use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

proptest! {
    #[test]
    fn blocks_behave_like_a_set(
        len in 1usize..300,
        changes in proptest::collection::vec((0usize..300, 0usize..100, any::<bool>()), 0..40),
    ) {
        let mut blocks = Blocks::new(len);
        let mut set = BTreeSet::new();
        for (start, count, plugged) in changes {
            let range = start..start + count;
            prop_assert_eq!(blocks.contains(&range), start + count <= len);
            if !blocks.contains(&range) {
                continue;
            }
            blocks.set(range.clone(), plugged);
            for block in range {
                match plugged {
                    true => set.insert(block),
                    false => set.remove(&block),
                };
            }
        }
        prop_assert_eq!(blocks.plugged(), set.len());
        let runs = blocks.runs();
        prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        prop_assert_eq!(runs.iter().cloned().flatten().collect::<BTreeSet<_>>(), set.clone());
        prop_assert_eq!(blocks.all(&(0..len), false), set.is_empty());
        prop_assert_eq!(blocks.all(&(0..len), true), set.len() == len);
        let mut again = Blocks::new(len);
        for run in runs {
            again.set(run, true);
        }
        prop_assert_eq!(again, blocks);
    }
}
