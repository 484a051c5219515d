import socket

from stillmotion.serving.server import listening


def test_the_end_of_an_answer_does_not_wait_for_an_acknowledgement():
    with (
        listening("127.0.0.1", 0) as bound,
        socket.create_connection(bound.getsockname()),
        bound.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
