//! The query string of `/rest/v1`: whatever the bytes, a read or a refusal; what is accepted keeps to the limits, and the
//! database answers it or refuses it in its own words. A statement that fails as a defect is a crash.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use nudge::rest::parse::parse;
use nudge_store::query::{Filter, MAX_DEPTH, MAX_TERMS, ReadQuery, Shape};
use nudge_store::{Caller, ReadError, ReadLimits, Store, StoreError, StoreOptions};
use tokio::runtime::Runtime;

fn database() -> &'static (Runtime, Store) {
    static DATABASE: OnceLock<(Runtime, Store)> = OnceLock::new();
    DATABASE.get_or_init(|| {
        // Left behind when the program is killed, so it is always the same place for one process.
        let folder = std::env::temp_dir().join(format!("nudge-fuzz-{}", std::process::id()));
        let reads = ReadLimits { service_ms: 500, wait_ms: 5_000, ..ReadLimits::default() };
        let options = StoreOptions { path: folder.join("nudge.db"), reads, ..StoreOptions::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        (runtime.expect("a runtime"), Store::open(options).expect("a database"))
    })
}

/// The depth of a tree and the number of its conditions.
fn size(filter: &Filter) -> (usize, usize) {
    match filter {
        Filter::Test { .. } => (0, 1),
        Filter::Tree { filters, .. } => filters.iter().map(size).fold((1, 0), |(depth, terms), (d, t)| {
            (depth.max(d + 1), terms + t)
        }),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, query)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(query);
    let asked = match parse(&text) {
        Ok(asked) => asked,
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "an error repeats all of a long text");
            return;
        }
    };
    let sizes: Vec<_> = asked.filters.iter().map(size).collect();
    assert!(sizes.iter().all(|(depth, _)| *depth <= MAX_DEPTH));
    assert!(sizes.iter().map(|(_, terms)| terms).sum::<usize>() <= MAX_TERMS);
    let tables = nudge_store::catalog::TABLES;
    let shapes = [Shape::Array, Shape::ObjectStripped, Shape::Csv, Shape::Nothing];
    let read = ReadQuery {
        table: tables[usize::from(choice) % tables.len()].name.to_owned(),
        select: asked.select,
        filters: asked.filters,
        order: asked.order,
        limit: asked.limit,
        offset: asked.offset,
        count: None,
        shape: shapes[usize::from(choice) / tables.len() % shapes.len()],
    };
    let (runtime, store) = database();
    match runtime.block_on(store.read_as(&Caller::Service, &read)) {
        Err(ReadError::Store(error @ (StoreError::Statement { .. } | StoreError::Inconsistent { .. }))) => {
            panic!("{error} for {read:?}");
        }
        Ok(_) | Err(_) => {}
    }
});
