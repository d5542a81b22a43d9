<?php
// One scenario with PHP's ftp functions, in the current folder: HOST USER PASSWORD SCENARIO.
set_error_handler(function ($level, $message) {
    throw new ErrorException($message);
});
[, $host, $user, $password, $scenario] = $argv;
// 0xFF is a letter of CP1251, and with another one behind it a Telnet command.
$name = "\xee\xe1\xfa\xff\xf2\xe8\xff\x20\xff\xff\x20\xff\xfd\xf5.txt";

function check($holds, $what)
{
    if (!$holds) {
        throw new Exception($what);
    }
}

function session()
{
    global $host, $user, $password;
    $ftp = ftp_connect($host, 21, 5);
    check($ftp, "connect");
    check(ftp_login($ftp, $user, $password), "login");
    check(ftp_pasv($ftp, true), "pasv");
    return $ftp;
}

function fetch($ftp, $path)
{
    $file = fopen("php://memory", "w+");
    check(ftp_fget($ftp, $file, $path, FTP_BINARY), "get");
    rewind($file);
    return stream_get_contents($file);
}

$ftp = session();
switch ($scenario) {
    case "names":
        file_put_contents("local", str_repeat("text", 250));
        check(ftp_put($ftp, "inbox/$name", "local", FTP_BINARY), "put");
        check(fetch($ftp, "inbox/$name") === str_repeat("text", 250), "other bytes");
        check(ftp_rename($ftp, "inbox/$name", "inbox/2$name"), "rename");
        check(ftp_put($ftp, "inbox/$name", "local", FTP_BINARY), "put");
        check(ftp_delete($ftp, "inbox/$name"), "delete");
        break;
    case "listing":
        file_put_contents("local", "text");
        check(ftp_put($ftp, "inbox/$name", "local", FTP_BINARY), "put");
        check(str_contains(implode("\n", ftp_nlist($ftp, "inbox")), $name), "the name is not listed");
        break;
    case "keepalive":
        // PHP reads the answer at once: servers that give it later cannot be kept alive by it.
        $state = ftp_nb_get($ftp, "fetched", "shelf/big.bin", FTP_BINARY);
        for ($step = 0; $state === FTP_MOREDATA; $step++) {
            if ($step === 10) {
                check(str_starts_with(ftp_raw($ftp, "NOOP")[0] ?? "", "2"), "NOOP");
            }
            $state = ftp_nb_continue($ftp);
        }
        check($state === FTP_FINISHED, "the transfer failed");
        check(filesize("fetched") === 8 << 20, filesize("fetched") . " bytes");
        break;
    case "abort":
        // It has no ABOR: what is left is to close the session in the middle.
        check(ftp_nb_get($ftp, "fetched", "shelf/big.bin", FTP_BINARY) === FTP_MOREDATA, "get");
        ftp_nb_continue($ftp);
        // Pure-FTPd hears QUIT only where it comes before the client's window is full.
        usleep(100000);
        ftp_close($ftp);
        $ftp = session();
        break;
}
// The session goes on as if nothing had been.
check(ftp_pwd($ftp), "pwd");
check(strlen(fetch($ftp, "shelf/small/01.txt")) === 600, "other bytes");
ftp_close($ftp);
