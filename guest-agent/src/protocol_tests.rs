use proptest::prelude::*;

use super::*;

fn any_exec() -> impl Strategy<Value = ExecRequest> {
    let text = "[^\u{0}]{0,20}";
    (
        prop::collection::vec(text, 0..5),
        prop::collection::btree_map(text, text, 0..4),
        prop::option::of(text),
        any::<(u32, u32, bool, u16, u16, bool)>(),
    )
        .prop_map(
            |(command, environment, cwd, (user, group, terminal, width, height, stdin))| ExecRequest {
                command,
                environment,
                cwd,
                user,
                group,
                terminal,
                width,
                height,
                stdin,
            },
        )
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let data = prop::collection::vec(any::<u8>(), 0..2000).prop_map(Bytes::from);
    prop_oneof![
        any_exec().prop_map(|exec| Frame::Request(Request::Exec(exec))),
        Just(Frame::Request(Request::Shutdown {
            action: ShutdownAction::Reboot
        })),
        Just(Frame::Request(Request::Sftp)),
        ".*".prop_map(|message| {
            Frame::Response(Response::Error(AgentError {
                kind: ErrorKind::NotFound,
                message,
            }))
        }),
        Just(Frame::Response(Response::Ok(ResponseBody::State(Box::default())))),
        Just(Frame::Response(Response::Ok(ResponseBody::Empty))),
        data.clone().prop_map(Frame::Stdin),
        data.clone().prop_map(Frame::Stdout),
        data.prop_map(Frame::Stderr),
        any::<(u16, u16)>().prop_map(|(width, height)| Frame::Control(Control::Resize { width, height })),
        any::<i32>().prop_map(|status| Frame::Exit(Exit { status })),
    ]
}

proptest! {
    #[test]
    fn frames_survive_any_cut_of_the_stream(
        frames in prop::collection::vec(any_frame(), 1..8),
        pieces in prop::collection::vec(1..700usize, 1..20),
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut wire).unwrap();
        }
        let (mut arrived, mut decoded, mut pieces) = (BytesMut::new(), Vec::new(), pieces.into_iter().cycle());
        while !wire.is_empty() {
            let piece = pieces.next().unwrap().min(wire.len());
            arrived.extend_from_slice(&wire.split_to(piece));
            while let Some(frame) = FrameCodec.decode(&mut arrived).unwrap() {
                decoded.push(frame);
            }
        }
        prop_assert_eq!(decoded, frames);
        prop_assert!(arrived.is_empty());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        while let Ok(Some(frame)) = FrameCodec.decode(&mut buffer) {
            let _ = frame.name();
        }
    }
}

#[test]
fn lengths_over_the_limit_are_refused_before_the_payload_arrives() {
    for (kind, limit) in [(0, MAX_JSON), (2, MAX_DATA), (6, MAX_JSON)] {
        let mut header = BytesMut::new();
        header.put_u8(kind);
        header.put_u32_le(limit as u32 + 1);
        let error = FrameCodec.decode(&mut header).unwrap_err();
        assert!(
            matches!(error, ProtocolError::TooLong { len, .. } if len == limit + 1),
            "{error}"
        );
    }
    assert!(
        Frame::Stdin(vec![0; MAX_DATA + 1].into())
            .encode(&mut BytesMut::new())
            .is_err()
    );
}

#[test]
fn unknown_types_are_refused() {
    let mut bytes = BytesMut::from(&[7u8, 0, 0, 0, 0][..]);
    assert!(matches!(
        FrameCodec.decode(&mut bytes),
        Err(ProtocolError::UnknownType(7))
    ));
}

#[test]
fn the_wire_form_is_the_documented_one() {
    let mut bytes = BytesMut::new();
    Frame::Control(Control::Resize {
        width: 80,
        height: 24,
    })
    .encode(&mut bytes)
    .unwrap();
    let json = br#"{"type":"resize","width":80,"height":24}"#;
    assert_eq!(&bytes[..5], [5, json.len() as u8, 0, 0, 0]);
    assert_eq!(&bytes[5..], json);
    let request: Request = serde_json::from_str(r#"{"type":"exec","command":["id"],"new-field":1}"#).unwrap();
    let expected = ExecRequest {
        command: vec!["id".into()],
        ..ExecRequest::default()
    };
    assert_eq!(
        request,
        Request::Exec(expected),
        "defaults fill in, unknown fields of newer clients are ignored"
    );
    assert_eq!(
        serde_json::to_string(&Request::Hello).unwrap(),
        r#"{"type":"hello"}"#
    );
}

#[tokio::test]
async fn reading_one_frame_leaves_the_rest_of_the_stream_alone() {
    let mut wire = BytesMut::new();
    Frame::Response(Response::Ok(ResponseBody::Empty))
        .encode(&mut wire)
        .unwrap();
    wire.extend_from_slice(b"sftp from here");
    let mut stream = &wire[..];
    assert!(matches!(
        read_frame(&mut stream).await.unwrap(),
        Some(Frame::Response(_))
    ));
    assert_eq!(stream, b"sftp from here");
    let mut ended = &wire[..3];
    assert!(matches!(read_frame(&mut ended).await, Err(ProtocolError::Io(_))));
    assert!(read_frame(&mut &b""[..]).await.unwrap().is_none());
}
