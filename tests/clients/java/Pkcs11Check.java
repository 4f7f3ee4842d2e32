import java.math.BigInteger;
import java.security.KeyFactory;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.Security;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.interfaces.ECPublicKey;
import java.security.interfaces.RSAPublicKey;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.RSAPublicKeySpec;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.KeyAgreement;
import javax.crypto.KeyGenerator;
import javax.crypto.Mac;
import javax.crypto.SecretKey;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/** What a Java program does with a token: every result is checked against Java's own software providers. */
public final class Pkcs11Check {
    private static final byte[] MESSAGE = "signed by Java".getBytes();

    private final Provider token;
    private final KeyStore store;
    private final char[] pin;

    private Pkcs11Check(String configuration, char[] pin) throws Exception {
        this.pin = pin;
        token = Security.getProvider("SunPKCS11").configure(configuration);
        Security.addProvider(token);
        store = KeyStore.getInstance("PKCS11", token);
        store.load(null, pin);
    }

    public static void main(String[] arguments) throws Exception {
        Pkcs11Check check = new Pkcs11Check(arguments[0], arguments[1].toCharArray());
        switch (arguments[2]) {
            case "signatures" -> check.signatures();
            case "stored" -> check.stored(arguments[3]);
            case "ciphers" -> check.ciphers();
            case "macs" -> check.macs();
            case "agreement" -> check.agreement();
            case "digests" -> check.digests();
            case "random" -> check.random();
            case "threads" -> check.threads(arguments[3]);
            default -> throw new IllegalArgumentException(arguments[2]);
        }
        System.out.println("done " + arguments[2]);
    }

    private static void demand(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
        System.out.println("ok " + what);
    }

    /** The same public key as an object of Java's software provider. */
    private static PublicKey software(PublicKey key) throws Exception {
        if (key instanceof RSAPublicKey rsa) {
            return KeyFactory.getInstance("RSA", "SunRsaSign")
                    .generatePublic(new RSAPublicKeySpec(rsa.getModulus(), rsa.getPublicExponent()));
        }
        ECPublicKey ec = (ECPublicKey) key;
        return KeyFactory.getInstance("EC", "SunEC").generatePublic(new ECPublicKeySpec(ec.getW(), ec.getParams()));
    }

    private KeyPair pair(String algorithm, Object parameter) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance(algorithm, token);
        if (parameter instanceof Integer bits) {
            generator.initialize(bits);
        } else {
            generator.initialize(new ECGenParameterSpec((String) parameter));
        }
        return generator.generateKeyPair();
    }

    private void sign(PrivateKey key, PublicKey publicKey, String algorithm) throws Exception {
        Signature signer = Signature.getInstance(algorithm, token);
        signer.initSign(key);
        signer.update(MESSAGE);
        byte[] signature = signer.sign();
        Signature verifier = Signature.getInstance(algorithm, publicKey instanceof RSAPublicKey ? "SunRsaSign" : "SunEC");
        verifier.initVerify(software(publicKey));
        verifier.update(MESSAGE);
        demand(verifier.verify(signature), algorithm + " signed by the token, verified in software");
        Signature tokens = Signature.getInstance(algorithm, token);
        tokens.initVerify(publicKey);
        tokens.update(MESSAGE);
        demand(tokens.verify(signature), algorithm + " verified by the token");
        tokens.initVerify(publicKey);
        tokens.update("something else".getBytes());
        demand(!tokens.verify(signature), algorithm + " of another message refused by the token");
    }

    private void signatures() throws Exception {
        KeyPair rsa = pair("RSA", 2048);
        for (String hash : new String[] {"SHA1", "SHA256", "SHA384", "SHA512"}) {
            sign(rsa.getPrivate(), rsa.getPublic(), hash + "withRSA");
        }
        for (String curve : new String[] {"secp256r1", "secp384r1", "secp521r1"}) {
            KeyPair ec = pair("EC", curve);
            for (String hash : new String[] {"SHA1", "SHA256", "SHA384", "SHA512"}) {
                sign(ec.getPrivate(), ec.getPublic(), hash + "withECDSA");
            }
        }
    }

    /** A key pair that keytool made earlier: its certificate verifies, and it signs. */
    private void stored(String alias) throws Exception {
        PrivateKey key = (PrivateKey) store.getKey(alias, pin);
        Certificate certificate = store.getCertificate(alias);
        demand(key != null && certificate != null, alias + " is in the store");
        certificate.verify(software(certificate.getPublicKey()));
        sign(key, certificate.getPublicKey(), "SHA256with" + (key.getAlgorithm().equals("EC") ? "ECDSA" : "RSA"));
    }

    private void ciphers() throws Exception {
        byte[] raw = new byte[32];
        byte[] iv = new byte[16];
        new SecureRandom().nextBytes(raw);
        new SecureRandom().nextBytes(iv);
        SecretKey software = new SecretKeySpec(raw, "AES");
        byte[] plain = new byte[1000];
        for (String transformation : new String[] {"AES/ECB/NoPadding", "AES/CBC/NoPadding", "AES/CBC/PKCS5Padding", "AES/CTR/NoPadding"}) {
            byte[] data = transformation.endsWith("NoPadding") && !transformation.contains("CTR") ? new byte[1024] : plain;
            Cipher ours = Cipher.getInstance(transformation, token);
            Cipher theirs = Cipher.getInstance(transformation, "SunJCE");
            if (transformation.contains("ECB")) {
                ours.init(Cipher.ENCRYPT_MODE, software);
                theirs.init(Cipher.ENCRYPT_MODE, software);
            } else {
                ours.init(Cipher.ENCRYPT_MODE, software, new IvParameterSpec(iv));
                theirs.init(Cipher.ENCRYPT_MODE, software, new IvParameterSpec(iv));
            }
            byte[] encrypted = ours.doFinal(data);
            demand(Arrays.equals(encrypted, theirs.doFinal(data)), transformation + " encrypts as software does");
            if (transformation.contains("ECB")) {
                ours.init(Cipher.DECRYPT_MODE, software);
            } else {
                ours.init(Cipher.DECRYPT_MODE, software, new IvParameterSpec(iv));
            }
            byte[] first = ours.update(encrypted, 0, 100);
            byte[] rest = ours.doFinal(encrypted, 100, encrypted.length - 100);
            byte[] decrypted = Arrays.copyOf(first == null ? new byte[0] : first, data.length);
            System.arraycopy(rest, 0, decrypted, first == null ? 0 : first.length, rest.length);
            demand(Arrays.equals(decrypted, data), transformation + " decrypts in parts");
        }
        GCMParameterSpec gcm = new GCMParameterSpec(128, Arrays.copyOf(iv, 12));
        Cipher ours = Cipher.getInstance("AES/GCM/NoPadding", token);
        Cipher theirs = Cipher.getInstance("AES/GCM/NoPadding", "SunJCE");
        ours.init(Cipher.ENCRYPT_MODE, software, gcm);
        theirs.init(Cipher.DECRYPT_MODE, software, gcm);
        ours.updateAAD("header".getBytes());
        theirs.updateAAD("header".getBytes());
        demand(Arrays.equals(theirs.doFinal(ours.doFinal(plain)), plain), "AES/GCM opened by software");

        KeyGenerator generator = KeyGenerator.getInstance("AES", token);
        generator.init(256);
        SecretKey generated = generator.generateKey();
        Cipher cipher = Cipher.getInstance("AES/CBC/PKCS5Padding", token);
        cipher.init(Cipher.ENCRYPT_MODE, generated, new IvParameterSpec(iv));
        byte[] encrypted = cipher.doFinal(plain);
        cipher.init(Cipher.DECRYPT_MODE, generated, new IvParameterSpec(iv));
        demand(Arrays.equals(cipher.doFinal(encrypted), plain), "AES key of the token");

        KeyPair rsa = pair("RSA", 2048);
        Cipher box = Cipher.getInstance("RSA/ECB/PKCS1Padding", "SunJCE");
        box.init(Cipher.ENCRYPT_MODE, software(rsa.getPublic()));
        byte[] sealed = box.doFinal(raw);
        Cipher opener = Cipher.getInstance("RSA/ECB/PKCS1Padding", token);
        opener.init(Cipher.DECRYPT_MODE, rsa.getPrivate());
        demand(Arrays.equals(opener.doFinal(sealed), raw), "RSA decrypts");
        Cipher wrapper = Cipher.getInstance("RSA/ECB/PKCS1Padding", "SunJCE");
        wrapper.init(Cipher.WRAP_MODE, software(rsa.getPublic()));
        byte[] wrapped = wrapper.wrap(software);
        opener.init(Cipher.UNWRAP_MODE, rsa.getPrivate());
        SecretKey unwrapped = (SecretKey) opener.unwrap(wrapped, "AES", Cipher.SECRET_KEY);
        cipher.init(Cipher.ENCRYPT_MODE, unwrapped, new IvParameterSpec(iv));
        Cipher expected = Cipher.getInstance("AES/CBC/PKCS5Padding", "SunJCE");
        expected.init(Cipher.ENCRYPT_MODE, software, new IvParameterSpec(iv));
        demand(Arrays.equals(cipher.doFinal(plain), expected.doFinal(plain)), "RSA unwraps an AES key");
    }

    private void macs() throws Exception {
        byte[] raw = new byte[64];
        new SecureRandom().nextBytes(raw);
        SecretKey software = new SecretKeySpec(raw, "Generic");
        for (String algorithm : new String[] {"HmacSHA1", "HmacSHA224", "HmacSHA256", "HmacSHA384", "HmacSHA512"}) {
            Mac ours = Mac.getInstance(algorithm, token);
            Mac theirs = Mac.getInstance(algorithm, "SunJCE");
            ours.init(software);
            theirs.init(new SecretKeySpec(raw, algorithm));
            ours.update(MESSAGE, 0, 5);
            ours.update(MESSAGE, 5, MESSAGE.length - 5);
            demand(Arrays.equals(ours.doFinal(), theirs.doFinal(MESSAGE)), algorithm);
        }
    }

    private void agreement() throws Exception {
        for (String curve : new String[] {"secp256r1", "secp384r1", "secp521r1"}) {
            KeyPair ours = pair("EC", curve);
            KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", "SunEC");
            generator.initialize(new ECGenParameterSpec(curve));
            KeyPair theirs = generator.generateKeyPair();
            KeyAgreement tokens = KeyAgreement.getInstance("ECDH", token);
            tokens.init(ours.getPrivate());
            tokens.doPhase(theirs.getPublic(), true);
            KeyAgreement software = KeyAgreement.getInstance("ECDH", "SunEC");
            software.init(theirs.getPrivate());
            software.doPhase(software(ours.getPublic()), true);
            demand(Arrays.equals(tokens.generateSecret(), software.generateSecret()), "ECDH on " + curve);
        }
    }

    private void digests() throws Exception {
        for (String algorithm : new String[] {"SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512"}) {
            byte[] ours = java.security.MessageDigest.getInstance(algorithm, token).digest(MESSAGE);
            byte[] theirs = java.security.MessageDigest.getInstance(algorithm, "SUN").digest(MESSAGE);
            demand(Arrays.equals(ours, theirs), algorithm);
        }
    }

    private void random() throws Exception {
        SecureRandom source = SecureRandom.getInstance("PKCS11", token);
        byte[] first = new byte[64];
        byte[] second = new byte[64];
        source.nextBytes(first);
        source.nextBytes(second);
        demand(!Arrays.equals(first, second) && !new BigInteger(first).equals(BigInteger.ZERO), "random");
    }

    /** Eight threads sign at once with one stored key. */
    private void threads(String alias) throws Exception {
        PrivateKey key = (PrivateKey) store.getKey(alias, pin);
        PublicKey publicKey = software(store.getCertificate(alias).getPublicKey());
        String algorithm = "SHA256with" + (key.getAlgorithm().equals("EC") ? "ECDSA" : "RSA");
        Throwable[] failures = new Throwable[8];
        Thread[] threads = new Thread[8];
        for (int index = 0; index < threads.length; index++) {
            int own = index;
            threads[index] = new Thread(() -> {
                try {
                    for (int round = 0; round < 25; round++) {
                        byte[] message = (own + " " + round).getBytes();
                        Signature signer = Signature.getInstance(algorithm, token);
                        signer.initSign(key);
                        signer.update(message);
                        byte[] signature = signer.sign();
                        Signature verifier = Signature.getInstance(algorithm, key.getAlgorithm().equals("EC") ? "SunEC" : "SunRsaSign");
                        verifier.initVerify(publicKey);
                        verifier.update(message);
                        if (!verifier.verify(signature)) {
                            throw new AssertionError("a signature is wrong");
                        }
                    }
                } catch (Throwable failure) {
                    failures[own] = failure;
                }
            });
            threads[index].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        for (Throwable failure : failures) {
            if (failure != null) {
                throw new AssertionError(failure);
            }
        }
        demand(true, "eight threads signed");
    }
}
