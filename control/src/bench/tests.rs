//! What is refused, which cores are taken, what is doubted, how figures are derived.

use std::path::Path;
use std::time::Duration;

use samepath_dataplane::bench::{Lap, Rate};

use super::doubt::{Watched, beforehand};
use super::plan::{chosen, fits};
use super::{Order, Spread};
use crate::host::{Core, Place};

fn order(workers: Option<usize>, cores: &[usize]) -> Order {
    Order {
        roles: Vec::new(),
        families: Vec::new(),
        sessions: 64,
        workers,
        cores: cores.into(),
        repetitions: 1,
        time: Duration::from_millis(10),
        json: false,
    }
}

/// Four threads of two cores: 0 and 2, 1 and 3.
fn known() -> Vec<Core> {
    (0..4).map(|id| Core { id, siblings: vec![id % 2, id % 2 + 2], ..Core::default() }).collect()
}

#[test]
fn without_a_word_each_worker_has_a_whole_core() {
    assert_eq!(chosen(&order(None, &[]), &[0, 1, 2, 3], &known()), Ok(vec![0, 1]));
    assert_eq!(chosen(&order(Some(3), &[]), &[0, 1, 2, 3], &known()), Ok(vec![0, 1, 2]));
    assert_eq!(chosen(&order(None, &[]), &[2, 3], &known()), Ok(vec![2, 3]), "their siblings are not ours");
    assert_eq!(chosen(&order(None, &[2, 0]), &[0, 1, 2, 3], &known()), Ok(vec![2, 0]), "it was told so");
    assert_eq!(chosen(&order(Some(1), &[3, 0]), &[0, 1, 2, 3], &known()), Ok(vec![3]));
    assert_eq!(chosen(&order(None, &[]), &[5, 6], &[]), Ok(vec![5, 6]), "nothing is known of them");
}

#[test]
fn workers_without_a_core_of_their_own_are_refused() {
    let refused = |order: &Order| chosen(order, &[0, 1, 2, 3], &known()).unwrap_err().to_string();
    assert_eq!(
        refused(&order(Some(5), &[])),
        "--workers 5: each worker needs a core of its own, and this process may use 4 (0,1,2,3); write at most 4"
    );
    assert_eq!(
        refused(&order(Some(3), &[1, 2])),
        "--workers 3: each worker needs a core of its own, and --cores names 2 (1,2); write at most 2"
    );
    assert_eq!(
        refused(&order(None, &[1, 9])),
        "--cores: core 9 is not usable by this process; choose from 0,1,2,3"
    );
}

#[test]
fn memory_that_is_not_there_is_refused_with_what_would_do() {
    assert_eq!(fits(1 << 24, 64, None), Ok(()), "nobody knows");
    assert_eq!(fits(65_536, 2, Some(1 << 30)), Ok(()));
    let refused = fits(1 << 20, 2, Some(1 << 30)).unwrap_err().to_string();
    assert!(refused.starts_with("--sessions 1048576: 2 workers"), "{refused}");
    let most: u32 = refused
        .split("write --sessions ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap();
    assert!(fits(most, 2, Some(1 << 30)).is_ok() && fits(most + 1, 2, Some(1 << 30)).is_err(), "{most}");
    let refused = fits(64, 2, Some(1 << 20)).unwrap_err().to_string();
    assert!(refused.ends_with("write fewer --workers, or measure where more memory is free"), "{refused}");
}

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

#[test]
fn what_the_host_shows_is_doubted_beforehand() {
    let root = tempfile::tempdir().unwrap();
    let place = Place::at(root.path());
    let calm = beforehand(&place, &[0, 1]).len();
    write(root.path(), "sys/devices/system/cpu/present", "0-2");
    for core in 0..3 {
        let folder = format!("sys/devices/system/cpu/cpu{core}");
        write(root.path(), &format!("{folder}/cpufreq/scaling_governor"), "powersave");
        write(
            root.path(),
            &format!("{folder}/topology/thread_siblings_list"),
            if core < 2 { "0-1" } else { "2" },
        );
    }
    write(root.path(), "proc/44/cmdline", "samepath\0run\0");
    let text = format!("{:?}", beforehand(&place, &[0, 1]));
    for words in ["process 44", "cores 0,1 of workers have the governor powersave", "two threads of one core"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(beforehand(&place, &[2]).len(), calm + 2, "it shares with nobody");
}

#[test]
fn what_others_took_meanwhile_is_doubted() {
    let root = tempfile::tempdir().unwrap();
    let place = Place::at(root.path());
    write(root.path(), "proc/stat", "cpu0 100 0 0 0 0 0 0 0 0 0\ncpu1 100 0 0 0 0 0 0 0 0 0\n");
    let mut watched = Watched::begin(&place);
    let ms = Duration::from_millis;
    watched.add(&[0, 1], &[Lap { cpu: ms(95), elapsed: ms(100), ..Lap::default() }; 2]);
    assert_eq!(watched.doubts(&place, &[0, 1]), []);
    watched.add(&[0, 1], &[Lap { cpu: ms(25), elapsed: ms(100), ..Lap::default() }]);
    write(root.path(), "proc/stat", "cpu0 200 0 0 0 0 0 0 1 0 0\ncpu1 180 0 0 0 0 0 0 20 0 0\n");
    let doubts = watched.doubts(&place, &[0, 1]);
    let causes: Vec<&str> = doubts.iter().map(|doubt| doubt.cause.as_str()).collect();
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert!(causes[0].starts_with("others had core 0 for 40 % of the time"), "{causes:?}");
    assert!(causes[1].starts_with("the hypervisor took 20 % of core 1"), "{causes:?}");
}

#[test]
fn the_fastest_measurement_has_the_least_time_per_packet() {
    let mpps = Spread::from(Rate::of(vec![4.0, 5.0, 2.0]));
    let ns = mpps.falling(|mpps| 1000.0 / mpps);
    assert_eq!(ns, Spread { median: 250.0, lowest: 200.0, highest: 500.0 });
    assert_eq!(ns.times(2.0), Spread { median: 500.0, lowest: 400.0, highest: 1000.0 });
}
