//! Many bytes, both ways, and slowly.

use super::*;

const BIG: usize = 32 << 20;

/// The byte at each place of what `seed` sends.
fn byte(seed: u32, place: u32) -> u8 {
    place.wrapping_mul(2_654_435_761).rotate_left(seed).to_le_bytes()[3]
}

async fn send_and_check(stream: TcpStream, seed: u32, other: u32) {
    let (mut from, mut to) = stream.into_split();
    let send = async move {
        let bytes: Vec<u8> = (0..u32::try_from(BIG).unwrap()).map(|place| byte(seed, place)).collect();
        to.write_all(&bytes).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let check = async move {
        let (mut place, mut buffer) = (0_u32, vec![0; 100_000]);
        loop {
            let count = from.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            for seen in &buffer[..count] {
                assert_eq!(*seen, byte(other, place));
                place += 1;
            }
        }
        assert_eq!(place as usize, BIG);
    };
    tokio::join!(send, check);
}

async fn both_ways(pipes: PipePool) {
    let mut lab = Lab::with(Relay::with_pipes(SOON, pipes));
    let (client, server, _opened) = lab.joined().await;
    let ends = (tokio::spawn(send_and_check(client, 3, 11)), tokio::spawn(send_and_check(server, 11, 3)));
    ends.0.await.unwrap();
    ends.1.await.unwrap();
    let how = HowEnded::Complete;
    assert_eq!(lab.end().await, DataEnd { to_server: BIG as u64, to_client: BIG as u64, is_estimate: false, how });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_at_a_time_unharmed() {
    both_ways(PipePool::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_copied_where_no_pipe_is_to_be_had() {
    both_ways(PipePool::with_limit(0)).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_and_costs_no_time() {
    let mut lab = Lab::new();
    let (mut client, mut server, _opened) = lab.joined().await;
    let sender = tokio::spawn(async move { server.write_all(&vec![9; BIG]).await });
    // All of this runs on one thread; wait until the buffers are full, then nothing may move.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = processor_time();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let spent = processor_time() - before;
    assert!(spent < Duration::from_millis(50), "{spent:?} of processor time while the reader slept");
    assert_eq!(read(&mut client).await.unwrap().len(), BIG);
    sender.await.unwrap().unwrap();
}

/// What this thread has used so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}
