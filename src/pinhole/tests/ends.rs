//! How a transfer ends, and what the other side sees of it.

use super::super::splice::FIRST_BYTES;
use super::*;

#[tokio::test]
async fn each_side_may_end_first_and_the_other_goes_on() {
    for client_first in [true, false] {
        let mut lab = Lab::new();
        let (client, server, _opened) = lab.joined().await;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"first").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(read(&mut second).await, Ok(b"first".to_vec()));
        second.write_all(b"and the answer").await.unwrap();
        drop(second);
        assert_eq!(read(&mut first).await, Ok(b"and the answer".to_vec()));
        let (to_server, to_client) = if client_first { (5, 14) } else { (14, 5) };
        assert_eq!(lab.end().await, DataEnd { to_server, to_client, is_estimate: false, how: HowEnded::Complete });
    }
}

#[tokio::test]
async fn a_reset_arrives_as_a_reset() {
    for by in [Side::Client, Side::Server] {
        let mut lab = Lab::new();
        let (client, server, _opened) = lab.joined().await;
        let (mut bad, mut good) = if by == Side::Client { (client, server) } else { (server, client) };
        bad.write_all(b"half of it").await.unwrap();
        good.read_exact(&mut [0; 10]).await.unwrap();
        reset(bad);
        assert_eq!(read(&mut good).await, RESET);
        assert_eq!(lab.end().await.how, HowEnded::CutBy(by));
    }
}

#[tokio::test]
async fn a_reset_right_behind_a_few_bytes_is_no_end() {
    for by in [Side::Client, Side::Server] {
        let mut lab = Lab::new();
        let (client, server, _opened) = lab.joined().await;
        let (bad, mut good) = if by == Side::Client { (client, server) } else { (server, client) };
        // The relay is on this thread: it finds both, or only the reset.
        assert_eq!(bad.try_write(b"half of it").unwrap(), 10);
        reset(bad);
        assert_eq!(read(&mut good).await, RESET);
        assert_eq!(lab.end().await.how, HowEnded::CutBy(by));
    }
}

#[tokio::test]
async fn an_end_right_behind_a_few_bytes_comes_with_them() {
    for count in [1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1] {
        let mut lab = Lab::new();
        let (mut client, server, _opened) = lab.joined().await;
        let bytes: Vec<u8> = (0..count).map(|place| place.to_le_bytes()[0]).collect();
        assert_eq!(server.try_write(&bytes).unwrap(), count);
        drop(server);
        assert_eq!(read(&mut client).await, Ok(bytes));
        drop(client);
        let (to_server, to_client) = (0, count as u64);
        assert_eq!(
            lab.end().await,
            DataEnd { to_server, to_client, is_estimate: false, how: HowEnded::Complete },
            "{count} bytes"
        );
    }
}

#[tokio::test]
async fn a_reset_after_an_end_of_file_is_seen() {
    let mut lab = Lab::new();
    let (mut client, server, _opened) = lab.joined().await;
    // The server has said its last word, takes part of an upload, and fails.
    let mut server = server;
    server.shutdown().await.unwrap();
    assert_eq!(read(&mut client).await, Ok(Vec::new()));
    client.write_all(b"part").await.unwrap();
    server.read_exact(&mut [0; 4]).await.unwrap();
    reset(server);
    assert_eq!(lab.end().await.how, HowEnded::CutBy(Side::Server));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(client.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn a_reset_while_the_other_side_is_slow_is_seen_at_once() {
    let mut lab = Lab::new();
    let (mut client, mut server, _opened) = lab.joined().await;
    let block = vec![7; 1 << 20];
    // Until every buffer on the way is full.
    while let Ok(written) = timeout(Duration::from_millis(300), client.write_all(&block)).await {
        written.unwrap();
    }
    reset(client);
    assert_eq!(lab.end().await.how, HowEnded::CutBy(Side::Client));
    assert_eq!(read(&mut server).await, RESET);
}

#[tokio::test]
async fn a_peer_that_has_ended_and_goes_away_cuts_nothing() {
    let mut lab = Lab::new();
    let (mut client, mut server, _opened) = lab.joined().await;
    let block = vec![7; 200_000];
    client.write_all(&block).await.unwrap();
    client.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    reset(client);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(read(&mut server).await, Ok(block));
    drop(server);
    assert_eq!(
        lab.end().await,
        DataEnd { to_server: 200_000, to_client: 0, is_estimate: false, how: HowEnded::Complete }
    );
}

#[tokio::test]
async fn an_aborted_transfer_is_reset_on_both_sides() {
    let mut lab = Lab::new();
    let (mut client, mut server, opened) = lab.joined().await;
    server.write_all(b"half").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
    opened.guard.close();
    assert_eq!(read(&mut client).await, RESET);
    assert_eq!(read(&mut server).await, RESET);
    assert_eq!(lab.end().await, DataEnd { to_server: 0, to_client: 4, is_estimate: false, how: HowEnded::Aborted });
}
