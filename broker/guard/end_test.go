package guard

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestCloseLetsWhatIsQueuedLeave(t *testing.T) {
	p := wired(t, Limits{}).join(connect4)
	want := bytes.Repeat([]byte("0123456789abcdef"), 50<<10/16)
	p.Write(want)
	p.Close()
	p.Close()
	if _, err := p.Read(make([]byte, 9)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read said %v", err)
	}
	if _, err := p.Write(want); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write said %v", err)
	}
	if got := p.told(); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(want))
	}
	p.client.Close()
	<-p.Done()
	if err := p.Err(); err != nil {
		t.Errorf("Err is %v", err)
	}
}

func TestCloseWaitsASecondForAReceiverThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{}).join(connect4)
		p.Write(make([]byte, 1000))
		start := time.Now()
		p.Close()
		took(t, start, 0)
		<-p.Done()
		took(t, start, time.Second)
	})
}

func TestCloseWaitsASecondForAClientThatKeepsItsEndOpen(t *testing.T) {
	p := wired(t, Limits{}).join(connect4)
	p.Write([]byte{0x20, 2, 0, 0})
	start := time.Now()
	p.Close()
	<-p.Done()
	if d := time.Since(start); d < linger || d > 5*linger {
		t.Errorf("after %v", d)
	}
}

func TestCloseWakesRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := piped(t, Limits{}).join(connect4)
		go func() {
			synctest.Wait()
			p.Close()
		}()
		if _, err := p.Read(make([]byte, 4096)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read said %v", err)
		}
		<-p.Done()
	})
}

func TestRefusedConnectIsAnsweredInItsVersion(t *testing.T) {
	for _, c := range []struct{ connect, answer string }{
		{`10 .. "MQTT" 03 02 003C "cam"`, `20 02 00 01`},
		{`10 .. "MQTT" 84 02 003C "cam"`, `20 02 00 01`},
		{`10 .. "MQTT" 06 02 003C 00 "cam"`, `20 03 00 84 00`},
		{`10 .. "HTTP" 04 02 003C "cam"`, ``},
		{c4 + `03 003C "cam"`, ``},
		{c5 + `03 003C [] "cam"`, `20 .. 00 81 [1F "CONNECT: reserved flag is set"]`},
		{c5 + `06 003C [27 00000010] "cam" [] "a/#" "x"`, `20 03 00 90 00`},
		{`'GET / HTTP/1.1'`, ``},
	} {
		p := wired(t, Limits{})
		p.send(c.connect)
		p.Read(make([]byte, 4096))
		if got := p.told(); !bytes.Equal(got, assemble(t, c.answer)) {
			t.Errorf("%s: told % X, want % X", c.connect, got, assemble(t, c.answer))
		}
		p.client.Close()
		<-p.Done()
	}
}

func TestViolationIsToldAfterAdmitInVersion5(t *testing.T) {
	for _, c := range []struct{ connect, packet, answer string }{
		{connect5, `30 .. "a/#" []`, `E0 .. 90 [1F "PUBLISH: topic \"a/#\" holds a wildcard"]`},
		{c5 + `02 003C [27 00000014] "cam"`, `30 .. "a/#" []`, `E0 02 90 00`},
		{connect5, `82 06 0001 00 0001 61`, `E0 .. 81 [1F "SUBSCRIBE: subscription options of 1 bytes, only 0 follow"]`},
		{connect4, `30 .. "a/#" []`, ``},
	} {
		p := wired(t, Limits{}).join(c.connect)
		p.send(c.packet)
		p.Read(make([]byte, 4096))
		p.Close() // as the broker does at once
		want := []byte(nil)
		if c.packet == `30 .. "a/#" []` && len(c.answer) > 20 {
			text := `PUBLISH: topic "a/#" holds a wildcard`
			want = append([]byte{0xE0, byte(5 + len(text)), 0x90, byte(3 + len(text)), 0x1F, 0, byte(len(text))}, text...)
		} else {
			want = assemble(t, c.answer)
		}
		if got := p.told(); !bytes.Equal(got, want) {
			t.Errorf("%s: told %q, want %q", c.packet, got, want)
		}
	}
}

func TestLastWordsArriveThoughTheClientIsStillSending(t *testing.T) {
	p := wired(t, Limits{}).join(connect5)
	go p.client.Write(append([]byte{0x30, 0xFF, 0xFF, 0x3F}, make([]byte, 512<<10)...))
	p.refused(tooLarge)
	p.Close()
	if b := p.told(); len(b) < 3 || b[0] != 0xE0 || b[2] != tooLarge {
		t.Errorf("told % X", b)
	}
}

func TestLastWordsArriveOverTLS(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server, client := tcp(t)
	certificates := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	p := guarded(t, tls.Server(server, &tls.Config{Certificates: certificates}),
		tls.Client(client, &tls.Config{InsecureSkipVerify: true}), Limits{})
	p.join(connect5).send(`D0 00`)
	p.refused(protocolError)
	if b := p.told(); len(b) < 3 || b[0] != 0xE0 || b[2] != protocolError {
		t.Errorf("told % X", b)
	}
}

func TestOwnerMayCloseFromManyPlacesAtOnce(t *testing.T) {
	p := wired(t, Limits{}).join(connect4)
	for range 20 {
		go p.Close()
		go p.Write([]byte{0xD0, 0})
		go p.SetDeadline(time.Now().Add(time.Hour))
		go p.Admit()
	}
	go io.Copy(io.Discard, p.client)
	p.Read(make([]byte, 4096))
	p.client.Close()
	<-p.Done()
}
