# Datagrams whose length, mark and hash both ends compare: `echo` answers each with what it saw, `ask` sends some.
import hashlib, json, select, socket, sys

IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVTCLASS, IPV6_TCLASS = 23, 24, 66, 67
IP_RECVTOS, IP_TOS, IP_RECVERR, IPV6_RECVERR = 13, 1, 11, 25


def echo(port):
    sockets = []
    for family, level, option, any_address in (
        (socket.AF_INET, socket.IPPROTO_IP, IP_RECVTOS, "0.0.0.0"),
        (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_RECVTCLASS, "::"),
    ):
        s = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(level, option, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        s.bind((any_address, port))
        sockets.append(s)
    print("listening", flush=True)
    while True:
        for s in select.select(sockets, [], [])[0]:
            data, ancillary, _, sender = s.recvmsg(70000, 256)
            mark = next((int.from_bytes(value[:1], "little") for _, _, value in ancillary), 0)
            answer = {"length": len(data), "hash": hashlib.sha256(data).hexdigest(), "mark": mark}
            s.sendto(json.dumps(answer).encode(), sender)


def ask(address, port, length, mark, whole):
    six = ":" in address
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    s.setsockopt(level, IPV6_TCLASS if six else IP_TOS, mark)
    if whole:
        s.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    s.connect((address, port))
    data = bytes((i * 167 + (i >> 8)) & 255 for i in range(length))
    for _ in range(8):
        try:
            s.send(data)
            if select.select([s], [], [], 0.7)[0]:
                answer = json.loads(s.recv(2000))
                right = answer["hash"] == hashlib.sha256(data).hexdigest()
                print(f"length {answer['length']} mark {answer['mark']} {'right' if right else 'damaged'}")
                return
        except OSError as error:
            if error.errno == 90:
                print(f"too big, the path carries {s.getsockopt(level, IPV6_MTU if six else IP_MTU)}")
                return
    print("no answer")


if sys.argv[1] == "echo":
    echo(int(sys.argv[2]))
else:
    for question in sys.argv[4:]:
        length, mark, how = question.split(":")
        ask(sys.argv[2], int(sys.argv[3]), int(length), int(mark), how == "whole")
