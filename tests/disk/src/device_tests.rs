use super::*;

const BLOCK: u64 = PAGE_BYTES as u64;

fn device() -> Device {
    Device::new(64 * BLOCK)
}

/// The first byte of each sector of a block.
fn sectors(device: &Device, block: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_BYTES];
    device.read(block * BLOCK, &mut bytes);
    bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]).collect()
}

fn write(device: &mut Device, block: u64, byte: u8) {
    device
        .write(block * BLOCK, &[byte; PAGE_BYTES])
        .expect("within the device");
}

fn flush(device: &mut Device) {
    device.finish_flush(device.begin_flush());
}

const EVERY_LOSS: [Loss; 4] = [Loss::All, Loss::Blocks, Loss::Torn, Loss::Reordered];

#[test]
fn what_was_flushed_survives_every_cut() {
    for loss in EVERY_LOSS {
        for seed in 0..100 {
            let mut device = device();
            write(&mut device, 1, 7);
            flush(&mut device);
            write(&mut device, 2, 8);
            device.cut(loss, seed);
            assert_eq!(sectors(&device, 1), [7; 8], "{loss:?} {seed}");
        }
    }
}

#[test]
fn a_write_is_read_at_once_and_lost_by_a_cut() {
    let mut device = device();
    write(&mut device, 1, 7);
    flush(&mut device);
    write(&mut device, 1, 8);
    device.write(BLOCK + 512, &[9; 512]).expect("a sector");
    assert_eq!(sectors(&device, 1), [8, 9, 8, 8, 8, 8, 8, 8]);
    let cut = device.cut(Loss::All, 1);
    let expected = Cut {
        writes: 2,
        sectors: 9,
        kept_sectors: 0,
    };
    assert_eq!(cut, expected);
    assert_eq!(sectors(&device, 1), [7; 8]);
    assert_eq!(device.unflushed_count(), 0);
}

#[test]
fn what_a_cut_left_survives_the_next_one() {
    let mut device = device();
    write(&mut device, 1, 7);
    let seed = (0..100).find(|seed| {
        device.cut(Loss::Blocks, *seed);
        let kept = sectors(&device, 1) == [7; 8];
        write(&mut device, 1, 7);
        kept
    });
    device.cut(Loss::Blocks, seed.expect("some seed keeps a block"));
    device.cut(Loss::All, 0);
    assert_eq!(sectors(&device, 1), [7; 8]);
}

/// A write that came while a flush was under way is not covered by it.
#[test]
fn a_flush_covers_what_was_complete_when_it_began() {
    let mut device = device();
    write(&mut device, 1, 1);
    write(&mut device, 2, 1);
    let covered = device.begin_flush();
    write(&mut device, 2, 2);
    write(&mut device, 3, 2);
    device.finish_flush(covered);
    assert_eq!([sectors(&device, 2)[0], sectors(&device, 3)[0]], [2, 2]);
    device.cut(Loss::All, 0);
    let left = [1, 2, 3].map(|block| sectors(&device, block)[0]);
    assert_eq!(left, [1, 1, 0]);
}

/// Whoever flushes again gets nothing back.
#[test]
fn a_failed_flush_loses_what_it_covered() {
    let mut device = device();
    write(&mut device, 1, 1);
    flush(&mut device);
    write(&mut device, 1, 2);
    let covered = device.begin_flush();
    write(&mut device, 2, 3);
    device.fail_flush(covered);
    flush(&mut device);
    assert_eq!([sectors(&device, 1)[0], sectors(&device, 2)[0]], [1, 3]);
    device.cut(Loss::All, 0);
    assert_eq!([sectors(&device, 1)[0], sectors(&device, 2)[0]], [1, 3]);
}

/// Each mode leaves what it is named after, in some seeds, and nothing that was never written.
#[test]
fn every_loss_leaves_what_it_says() {
    let (mut lost, mut kept, mut torn, mut stale) = (0, 0, 0, 0);
    for loss in EVERY_LOSS {
        let mut torn_by = 0;
        for seed in 0..200 {
            let mut device = device();
            for version in 1..=2 {
                (0..8).for_each(|block| write(&mut device, block, version));
            }
            let cut = device.cut(loss, seed);
            assert_eq!((cut.writes, cut.sectors), (16, 128));
            for block in 0..8 {
                let left = sectors(&device, block);
                let equal = left.iter().all(|sector| *sector == left[0]);
                torn_by += u32::from(!equal);
                lost += u32::from(left == [0; 8]);
                stale += u32::from(left == [1; 8]);
                kept += u32::from(left == [2; 8]);
                assert!(left.iter().all(|sector| *sector <= 2));
            }
        }
        assert_eq!(torn_by > 0, loss == Loss::Torn, "{loss:?}");
        torn += torn_by;
    }
    assert!(lost > 0 && kept > 0 && torn > 0 && stale > 0);
}

#[test]
fn reordered_keeps_the_later_and_loses_the_earlier() {
    let mut boundaries = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut device = device();
        (0..8).for_each(|block| write(&mut device, block, 1));
        device.cut(Loss::Reordered, seed);
        let left: Vec<u8> = (0..8).map(|block| sectors(&device, block)[0]).collect();
        assert!(left.is_sorted(), "{left:?}");
        boundaries.insert(left.iter().filter(|kept| **kept == 0).count());
    }
    assert_eq!(boundaries.into_iter().collect::<Vec<_>>(), (0..=8).collect::<Vec<_>>());
}

#[test]
fn the_same_seed_leaves_the_same() {
    let left = |seed| {
        let mut device = device();
        (0..32).for_each(|block| write(&mut device, block, 1));
        device.cut(Loss::Torn, seed);
        (0..32).flat_map(|block| sectors(&device, block)).collect::<Vec<u8>>()
    };
    assert_eq!(left(3), left(3));
    assert_ne!(left(3), left(4));
}

/// A full cache writes back its older half: memory is bounded, and the younger half is still volatile.
#[test]
fn a_full_cache_writes_back_by_itself() {
    let mebibyte = vec![1; 1 << 20];
    let mut device = Device::new(CACHE_BYTES_MAX * 2);
    let count = (CACHE_BYTES_MAX >> 20) + 1;
    for index in 0..count {
        device.write(index << 20, &mebibyte).expect("within the device");
    }
    assert!(device.unflushed_bytes <= CACHE_BYTES_MAX);
    device.cut(Loss::All, 0);
    assert_eq!(sectors(&device, 0)[0], 1);
    assert_eq!(sectors(&device, (count - 1) << 8)[0], 0);
}

#[test]
fn only_whole_sectors_within_the_device_are_taken() {
    let mut device = device();
    assert_eq!(device.write(100, &[1; 512]), Err(OutOfRange));
    assert_eq!(device.write(0, &[1; 100]), Err(OutOfRange));
    assert_eq!(device.write(64 * BLOCK, &[1; 512]), Err(OutOfRange));
    assert_eq!(device.write(u64::MAX - 511, &[1; 512]), Err(OutOfRange));
    let mut beyond = [9; 1024];
    device.read(64 * BLOCK - 512, &mut beyond);
    assert_eq!(beyond, [0; 1024]);
}
