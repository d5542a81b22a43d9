# One scenario with Perl's Net::FTP, in the current folder: HOST USER PASSWORD SCENARIO.
use strict;
use warnings;
use Net::FTP;

my ($host, $user, $password, $scenario) = @ARGV;
# 0xFF is a letter of CP1251, and with another one behind it a Telnet command.
my $name = "\xee\xe1\xfa\xff\xf2\xe8\xff\x20\xff\xff\x20\xff\xfd\xf5.txt";

sub session {
    my $ftp = Net::FTP->new($host, Timeout => 8, Passive => 1, Debug => 1) or die "connect: $@";
    $ftp->login($user, $password) or die "login: " . $ftp->message;
    $ftp->binary or die "TYPE I: " . $ftp->message;
    return $ftp;
}

sub fetch {
    my ($ftp, $path) = @_;
    my $text = '';
    open(my $file, '>', \$text) or die $!;
    $ftp->get($path, $file) or die "get $path: " . $ftp->message;
    return $text;
}

# From the reply that was read last on.
sub read_until {
    my ($ftp, $code) = @_;
    while ($ftp->code != $code) {
        die "no $code" unless $ftp->response;
    }
}

my %scenarios = (
    names => sub {
        my $ftp = shift;
        my $text = 'text' x 250;
        open(my $file, '<', \$text) or die $!;
        $ftp->put($file, "inbox/$name") or die "put: " . $ftp->message;
        die "other bytes" unless fetch($ftp, "inbox/$name") eq $text;
        $ftp->rename("inbox/$name", "inbox/2$name") or die "rename: " . $ftp->message;
        open($file, '<', \'') or die $!;
        $ftp->put($file, "inbox/$name") or die "put: " . $ftp->message;
        $ftp->delete("inbox/$name") or die "delete: " . $ftp->message;
    },
    listing => sub {
        my $ftp = shift;
        open(my $file, '<', \'text') or die $!;
        $ftp->put($file, "inbox/$name") or die "put: " . $ftp->message;
        die "the name is not listed" unless grep { index($_, $name) >= 0 } $ftp->ls('inbox');
    },
    keepalive => sub {
        my $ftp = shift;
        my ($sent, $taken) = (0, 0);
        my $data = $ftp->retr('shelf/big.bin') or die "retr: " . $ftp->message;
        while (my $count = $data->read(my $block, 65536, 15)) {
            $taken += $count;
            if (int($taken / (2 << 20)) > $sent) {
                $ftp->command('NOOP');
                $sent++;
            }
        }
        $data->close;
        # Some servers do not know NOOP in the middle of a transfer, or take two for one.
        read_until($ftp, 226);
        $ftp->command('SYST');
        $ftp->response;
        read_until($ftp, 215);
        die "$taken bytes" unless $taken == 8 << 20;
    },
    abort => sub {
        my $ftp = shift;
        my $data = $ftp->retr('shelf/big.bin') or die "retr: " . $ftp->message;
        $data->read(my $block, 65536, 15);
        $data->abort;
        # What is left to be said of the transfer comes first.
        $ftp->command('SYST');
        $ftp->response;
        read_until($ftp, 215);
    },
);

my $ftp = session();
$scenarios{$scenario}->($ftp);
# The session goes on as if nothing had been.
die "pwd: " . $ftp->message unless $ftp->pwd;
die "other bytes" unless length(fetch($ftp, 'shelf/small/01.txt')) == 600;
$ftp->quit;
